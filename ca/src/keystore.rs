//! Keeps private keys encrypted: as files of the data folder, and as blobs for the ledger.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ferrule_identity::{Fingerprint, KeyAlgorithm, KeyError, PrivateKey, SealCost};
use zeroize::Zeroizing;

use crate::folder::{self, Folder, FolderError};

/// Opens and closes the CA's private keys. Each is encrypted PKCS#8 (PBES2: scrypt, AES-256), under a passphrase
/// that the operator keeps, or under a key-encryption key that was made here.
pub struct Keystore {
    folder: Folder,
    secret: Zeroizing<Vec<u8>>,
    /// Where the secret came from.
    source: PathBuf,
    kind: SecretKind,
}

/// What the keys are locked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretKind {
    /// A passphrase of the operator's, from a file of his.
    Passphrase,
    /// Random octets in the data folder itself: whoever copies the folder has the keys.
    BesideData,
}

impl Keystore {
    /// The keys of `folder`, locked with what is in `passphrase_file`, or else with the folder's own
    /// key-encryption key, which is made when there is none and the folder has no keys yet.
    ///
    /// # Errors
    /// When the secret cannot be read or made, or others can read it.
    pub fn open(folder: &Folder, passphrase_file: Option<&Path>) -> Result<Self, KeystoreError> {
        let (secret, source, kind) = match passphrase_file {
            Some(file) => (
                folder::read_secret(file)?,
                file.to_owned(),
                SecretKind::Passphrase,
            ),
            None => (own_secret(folder)?, folder.kek(), SecretKind::BesideData),
        };
        Ok(Self {
            folder: folder.clone(),
            secret,
            source,
            kind,
        })
    }

    /// Where the keys lie.
    pub const fn folder(&self) -> &Folder {
        &self.folder
    }

    /// What the keys are locked with.
    pub const fn kind(&self) -> SecretKind {
        self.kind
    }

    /// The file that the secret was read from.
    pub fn source(&self) -> &Path {
        &self.source
    }

    /// Encrypts `key`, as text that only [`unseal`](Self::unseal) with the same secret opens.
    ///
    /// # Errors
    /// When the library has no randomness.
    pub fn seal(&self, key: &PrivateKey) -> Result<Zeroizing<String>, KeystoreError> {
        let cost = match self.kind {
            SecretKind::Passphrase => SealCost::STANDARD,
            // 256 random bits cannot be guessed however cheap a guess is; a start should not wait for them.
            SecretKind::BesideData => {
                SealCost::new(10, 8, 1).map_err(|source| self.failed("seal", "key", source))?
            }
        };
        key.to_encrypted_pem_at(cost, &self.secret)
            .map_err(|source| self.failed("seal", &key.public_key().fingerprint().to_string(), source))
    }

    /// Opens what [`seal`](Self::seal) closed. `name` says in errors which key it was.
    ///
    /// # Errors
    /// When the secret is another one, or the text is damaged.
    pub fn unseal(&self, name: &str, sealed: &[u8]) -> Result<PrivateKey, KeystoreError> {
        let text = std::str::from_utf8(sealed).map_err(|_| KeystoreError::NotText {
            name: name.to_owned(),
        })?;
        PrivateKey::from_encrypted_pem(text, &self.secret).map_err(|source| self.failed("open", name, source))
    }

    /// Writes `key` to a file named by its public key, durably, and says that name. A key that lies there already
    /// stays as it is.
    ///
    /// # Errors
    /// When it cannot be sealed, or the disk does not take it.
    pub fn store(&self, key: &PrivateKey) -> Result<Fingerprint, KeystoreError> {
        let name = key.public_key().fingerprint();
        if !self.has(name) {
            folder::write_private(&self.path(name), self.seal(key)?.as_bytes())?;
        }
        Ok(name)
    }

    /// This replica's own key, which signs the checkpoints of its ledger. It is made where there is no ledger yet.
    ///
    /// # Errors
    /// When it cannot be read, made or kept; when there is a ledger and no key.
    pub fn replica_key(&self) -> Result<PrivateKey, KeystoreError> {
        let path = self.folder.keys().join("replica.pem");
        if !path.exists() && !self.folder.is_initialised() {
            let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256)
                .map_err(|source| self.failed("make", "replica", source))?;
            folder::write_private(&path, self.seal(&key)?.as_bytes())?;
        }
        let sealed = folder::read_private(&path, MAX_SEALED_BYTES)?;
        self.unseal("replica", &sealed)
    }

    /// Whether there is a file for the key.
    pub fn has(&self, name: Fingerprint) -> bool {
        self.path(name).exists()
    }

    /// Reads the key of that name.
    ///
    /// # Errors
    /// When there is none, others can read it, the secret is another one, or another key lies under that name.
    pub fn load(&self, name: Fingerprint) -> Result<PrivateKey, KeystoreError> {
        let sealed = folder::read_private(&self.path(name), MAX_SEALED_BYTES)?;
        let key = self.unseal(&name.to_string(), &sealed)?;
        if key.public_key().fingerprint() == name {
            Ok(key)
        } else {
            Err(KeystoreError::OtherKey {
                path: self.path(name),
                found: key.public_key().fingerprint(),
            })
        }
    }

    /// Deletes the file of a key that will never sign again. One that is gone already is no fault.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn forget(&self, name: Fingerprint) -> Result<(), KeystoreError> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(FolderError::Access {
                doing: "delete",
                path,
                source,
            }
            .into()),
            _ => Ok(()),
        }
    }

    fn path(&self, name: Fingerprint) -> PathBuf {
        self.folder.keys().join(format!("{name}.pem"))
    }

    fn failed(&self, doing: &'static str, name: &str, source: KeyError) -> KeystoreError {
        KeystoreError::Seal {
            doing,
            name: name.to_owned(),
            secret: self.source.clone(),
            source: Box::new(source),
        }
    }
}

impl fmt::Debug for Keystore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keystore({} [redacted])", self.folder.path().display())
    }
}

/// The key-encryption key that lies in the folder. Only a folder without keys gets a new one: with another key
/// than the one that its keys were locked with, they are lost.
fn own_secret(folder: &Folder) -> Result<Zeroizing<Vec<u8>>, KeystoreError> {
    let path = folder.kek();
    if !path.exists() {
        if folder.is_initialised() || has_keys(folder) {
            return Err(KeystoreError::NoSecret { path });
        }
        let mut octets = Zeroizing::new([0; KEK_OCTETS]);
        aws_lc_rs::rand::fill(octets.as_mut_slice()).map_err(|_| KeystoreError::Random)?;
        let text = Zeroizing::new(STANDARD.encode(octets.as_slice()));
        folder::write_private(&path, text.as_bytes())?;
    }
    let secret = folder::read_private(&path, MAX_SEALED_BYTES)?;
    // Shorter than what was made here is damaged, and perhaps guessable.
    if secret.len() < KEK_OCTETS {
        return Err(KeystoreError::ShortSecret { path });
    }
    Ok(secret)
}

fn has_keys(folder: &Folder) -> bool {
    fs::read_dir(folder.keys()).is_ok_and(|mut entries| entries.next().is_some())
}

/// Why a key cannot be kept or opened. No message repeats a byte of a key or a secret.
#[derive(Debug, thiserror::Error)]
pub enum KeystoreError {
    /// A file cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A key could not be sealed or opened.
    #[error("cannot {doing} the key {name} with the secret in {}", secret.display())]
    Seal {
        /// The operation.
        doing: &'static str,
        /// The key.
        name: String,
        /// Where the secret came from.
        secret: PathBuf,
        /// The cause.
        source: Box<KeyError>,
    },
    /// Keys without the secret that opens them.
    #[error(
        "there is no {}, which the keys of this folder are locked with, and no passphrase file was given \
         (--passphrase-file)",
        path.display()
    )]
    NoSecret {
        /// Where it should be.
        path: PathBuf,
    },
    /// The key-encryption key is damaged.
    #[error("{} is too short to be a key-encryption key", path.display())]
    ShortSecret {
        /// The file.
        path: PathBuf,
    },
    /// A sealed key that is no text.
    #[error("the sealed key {name} is damaged")]
    NotText {
        /// The key.
        name: String,
    },
    /// A file under the name of another key.
    #[error("{} holds the key {found} instead", path.display())]
    OtherKey {
        /// The file.
        path: PathBuf,
        /// The key in it.
        found: Fingerprint,
    },
    /// The system has no randomness.
    #[error("no randomness for a key-encryption key")]
    Random,
}

const KEK_OCTETS: usize = 32;

/// An encrypted key of RSA-4096 has 3,400 bytes.
const MAX_SEALED_BYTES: u64 = 16 * 1024;

#[cfg(test)]
mod tests;
