//! Locks private keys under a passphrase, as encrypted PKCS#8 that other programs can open.

use pkcs8::der::Decode;
use pkcs8::pkcs5::pbes2::{EncryptionScheme as Cipher, Kdf, Parameters};
use pkcs8::pkcs5::{EncryptionScheme, scrypt};
use pkcs8::{EncryptedPrivateKeyInfo, PrivateKeyInfo};
use zeroize::Zeroizing;

use super::{KeyError, PrivateKey};
use crate::pem;

/// What it costs to try one passphrase: scrypt's N, r and p (RFC 7914 §2). Memory is 128·N·r bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealCost {
    log_n: u8,
    r: u32,
    p: u32,
}

impl SealCost {
    /// N = 2^14, r = 8, p = 5: 16 MiB, a tenth of a second or so.
    ///
    /// Of the settings that OWASP's password storage advice calls equal in strength, it is the one of the
    /// largest N that OpenSSL opens: its scrypt stops at 32 MiB, everything included.
    pub const STANDARD: Self = Self {
        log_n: 14,
        r: 8,
        p: 5,
    };

    /// A cost of one's own.
    ///
    /// # Errors
    /// When scrypt cannot work with it, or [`PrivateKey::from_encrypted_pem`] would refuse to open what it made.
    pub fn new(log_n: u8, r: u32, p: u32) -> Result<Self, KeyError> {
        if log_n >= 64 {
            return Err(KeyError::SealCost);
        }
        check_scrypt(1 << log_n, r.into(), p.into())?;
        scrypt::Params::new(log_n, r, p, KEY_BYTES).map_err(|_| KeyError::SealCost)?;
        Ok(Self { log_n, r, p })
    }
}

impl PrivateKey {
    /// The key encrypted under `passphrase` at [`SealCost::STANDARD`], as PEM: PKCS#8 with PBES2, scrypt and
    /// AES-256-CBC (RFC 8018 §6.2). `openssl pkcs8 -in` opens it.
    ///
    /// # Errors
    /// When the passphrase is empty or the library has no randomness.
    pub fn to_encrypted_pem(&self, passphrase: &[u8]) -> Result<Zeroizing<String>, KeyError> {
        self.to_encrypted_pem_at(SealCost::STANDARD, passphrase)
    }

    /// As [`to_encrypted_pem`](Self::to_encrypted_pem), at a cost of one's own.
    ///
    /// # Errors
    /// As [`to_encrypted_pem`](Self::to_encrypted_pem).
    pub fn to_encrypted_pem_at(
        &self,
        cost: SealCost,
        passphrase: &[u8],
    ) -> Result<Zeroizing<String>, KeyError> {
        if passphrase.is_empty() {
            return Err(KeyError::EmptyPassphrase);
        }
        let mut salt = [0; SALT_BYTES];
        let mut iv = [0; IV_BYTES];
        aws_lc_rs::rand::fill(&mut salt).map_err(|_| KeyError::Encrypt)?;
        aws_lc_rs::rand::fill(&mut iv).map_err(|_| KeyError::Encrypt)?;
        let scrypt =
            scrypt::Params::new(cost.log_n, cost.r, cost.p, KEY_BYTES).map_err(|_| KeyError::Encrypt)?;
        let parameters = Parameters::scrypt_aes256cbc(scrypt, &salt, &iv).map_err(|_| KeyError::Encrypt)?;
        let sealed = PrivateKeyInfo::from_der(&self.pkcs8)
            .map_err(|_| KeyError::Encrypt)?
            .encrypt_with_params(parameters, passphrase)
            .map_err(|_| KeyError::Encrypt)?;
        Ok(pem::write(pem::ENCRYPTED_PRIVATE_KEY, sealed.as_bytes()))
    }

    /// Opens a key that [`to_encrypted_pem`](Self::to_encrypted_pem) or another program encrypted: PBES2 with
    /// AES in CBC mode, and scrypt or PBKDF2 with SHA-2. One block, nothing around it.
    ///
    /// # Errors
    /// When the text is no such key, the passphrase is wrong, the key is of a kind that is refused, or opening
    /// would take more than 64 MiB or a few seconds.
    pub fn from_encrypted_pem(text: &str, passphrase: &[u8]) -> Result<Self, KeyError> {
        let block = pem::read_one(text, pem::ENCRYPTED_PRIVATE_KEY).map_err(KeyError::Pem)?;
        super::check_length(block.der())?;
        let sealed =
            EncryptedPrivateKeyInfo::from_der(block.der()).map_err(|source| KeyError::Malformed {
                what: "encrypted private key",
                source,
            })?;
        let EncryptionScheme::Pbes2(parameters) = &sealed.encryption_algorithm else {
            return Err(KeyError::Encryption);
        };
        check_cost(parameters)?;
        // Opened in a buffer of ours, which is wiped whatever happens.
        let mut buffer = Zeroizing::new(sealed.encrypted_data.to_vec());
        let opened = parameters
            .decrypt_in_place(passphrase, &mut buffer)
            .map_err(|error| match error {
                pkcs8::pkcs5::Error::UnsupportedAlgorithm { .. } => KeyError::Encryption,
                _ => KeyError::Passphrase,
            })?;
        // One wrong passphrase in 256 yields good padding around noise.
        Self::from_pkcs8_der(opened).map_err(|error| match error {
            KeyError::Malformed { .. } => KeyError::Passphrase,
            other => other,
        })
    }
}

/// Refuses a foreign file's parameters when opening it would cost too much, or the library would fail on them.
fn check_cost(parameters: &Parameters<'_>) -> Result<(), KeyError> {
    match &parameters.encryption {
        Cipher::Aes128Cbc { .. } | Cipher::Aes256Cbc { .. } | Cipher::Aes192Cbc { .. } => {}
        _ => return Err(KeyError::Encryption),
    }
    match &parameters.kdf {
        Kdf::Scrypt(scrypt) => check_scrypt(
            scrypt.cost_parameter,
            scrypt.block_size.into(),
            scrypt.parallelization.into(),
        ),
        Kdf::Pbkdf2(pbkdf2) if (1..=MAX_PBKDF2_ROUNDS).contains(&pbkdf2.iteration_count) => Ok(()),
        Kdf::Pbkdf2(_) => Err(KeyError::SealCost),
        _ => Err(KeyError::Encryption),
    }
}

fn check_scrypt(n: u64, r: u64, p: u64) -> Result<(), KeyError> {
    let memory = n.checked_mul(r).and_then(|blocks| blocks.checked_mul(128));
    let work = n.checked_mul(r).and_then(|blocks| blocks.checked_mul(p));
    match (memory, work) {
        // N below 2 is no scrypt, and a zero would overflow in the library.
        (Some(memory), Some(work))
            if n.is_power_of_two()
                && n >= 2
                && r >= 1
                && p >= 1
                && memory <= MAX_SCRYPT_MEMORY
                && work <= MAX_SCRYPT_WORK =>
        {
            Ok(())
        }
        _ => Err(KeyError::SealCost),
    }
}

/// AES-256.
const KEY_BYTES: usize = 32;

/// RFC 8018 §4.1 asks for at least 8.
const SALT_BYTES: usize = 16;

/// One block of AES.
const IV_BYTES: usize = 16;

/// 64 MiB: four times [`SealCost::STANDARD`], and no threat to a small container.
const MAX_SCRYPT_MEMORY: u64 = 64 * 1024 * 1024;

/// N·r·p; [`SealCost::STANDARD`] has 655,360 and takes a tenth of a second, so this is about a second.
const MAX_SCRYPT_WORK: u64 = 8 * 655_360;

/// OWASP asks for 600,000 rounds with SHA-256; this many take a second or two.
const MAX_PBKDF2_ROUNDS: u32 = 2_000_000;
