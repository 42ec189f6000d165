//! Reads PEM text (RFC 7468) strictly, naming the line of whatever is wrong.
//!
//! Strict means: nothing but blank lines outside the blocks, no headers inside them, one label on both ends,
//! canonical Base64. Indentation, blank lines and CRLF are allowed, since YAML and Windows make them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// The label of an X.509 certificate.
pub const CERTIFICATE: &str = "CERTIFICATE";
/// The label of a PKCS#10 request.
pub const CERTIFICATE_REQUEST: &str = "CERTIFICATE REQUEST";
/// The label of a certificate revocation list.
pub const X509_CRL: &str = "X509 CRL";
/// The label of an unencrypted PKCS#8 key.
pub const PRIVATE_KEY: &str = "PRIVATE KEY";
/// The label of an encrypted PKCS#8 key.
pub const ENCRYPTED_PRIVATE_KEY: &str = "ENCRYPTED PRIVATE KEY";

/// How much PEM is read, so that foreign text costs no more than its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PemLimits {
    /// The longest text, in bytes.
    pub bytes: usize,
    /// The most blocks.
    pub blocks: usize,
}

impl PemLimits {
    /// For one key, request or certificate: 64 KiB, one block.
    pub const ONE: Self = Self {
        bytes: 64 * 1024,
        blocks: 1,
    };

    /// For a chain of certificates: 64 KiB, sixteen blocks.
    pub const CHAIN: Self = Self {
        bytes: 64 * 1024,
        blocks: 16,
    };

    /// For a bundle of trust anchors or a folder of lists: 1 MiB, 256 blocks.
    pub const BUNDLE: Self = Self {
        bytes: 1024 * 1024,
        blocks: 256,
    };
}

/// One block of PEM. Its bytes are wiped when it is dropped, since they may be a key.
#[derive(PartialEq, Eq)]
pub struct PemBlock {
    label: String,
    line: usize,
    der: Zeroizing<Vec<u8>>,
}

impl PemBlock {
    /// What the block says it holds, such as `CERTIFICATE`.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The line of its `BEGIN`, counted from 1.
    pub const fn line(&self) -> usize {
        self.line
    }

    /// The decoded bytes; never empty.
    pub fn der(&self) -> &[u8] {
        &self.der
    }
}

impl std::fmt::Debug for PemBlock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PemBlock({} at line {} [redacted])", self.label, self.line)
    }
}

/// Reads every block of `text`, whatever its label.
///
/// # Errors
/// When the text breaks a rule of this module or a limit, or holds no block.
pub fn read(text: &str, limits: PemLimits) -> Result<Vec<PemBlock>, PemError> {
    if text.len() > limits.bytes {
        return Err(PemError::TooLong {
            bytes: text.len(),
            limit: limits.bytes,
        });
    }
    let mut blocks = Vec::new();
    let mut open: Option<OpenBlock> = None;
    for (index, raw) in text.split('\n').enumerate() {
        let line = index + 1;
        let content = raw.trim_matches([' ', '\t', '\r']);
        open = match open {
            None if content.is_empty() => None,
            None => {
                let label = boundary(content, "-----BEGIN ").ok_or(PemError::Outside { line })?;
                if blocks.len() == limits.blocks {
                    return Err(PemError::TooMany {
                        line,
                        limit: limits.blocks,
                    });
                }
                Some(OpenBlock {
                    label,
                    line,
                    content: Vec::new(),
                })
            }
            Some(mut block) => match boundary(content, "-----END ") {
                Some(label) if label == block.label => {
                    blocks.push(block.close()?);
                    None
                }
                Some(_) => {
                    return Err(PemError::EndLabel {
                        line,
                        label: block.label.to_owned(),
                    });
                }
                None => {
                    block.push(content, line)?;
                    Some(block)
                }
            },
        };
    }
    match open {
        Some(block) => Err(PemError::Unclosed {
            line: block.line,
            label: block.label.to_owned(),
        }),
        None if blocks.is_empty() => Err(PemError::Empty),
        None => Ok(blocks),
    }
}

/// Reads every block of `text`, each of which must be a `label`.
///
/// # Errors
/// As [`read`], or when a block has another label.
pub fn read_all(text: &str, label: &'static str, limits: PemLimits) -> Result<Vec<PemBlock>, PemError> {
    let blocks = read(text, limits)?;
    match blocks.iter().find(|block| block.label != label) {
        None => Ok(blocks),
        Some(other) => Err(PemError::Label {
            line: other.line,
            found: other.label.clone(),
            expected: label,
        }),
    }
}

/// Reads exactly one block, which must be a `label`, within [`PemLimits::ONE`].
///
/// # Errors
/// As [`read_all`].
pub fn read_one(text: &str, label: &'static str) -> Result<PemBlock, PemError> {
    read_all(text, label, PemLimits::ONE)?
        .pop()
        .ok_or(PemError::Empty)
}

/// Writes one block: lines of 64 characters, each ending in a line feed. Wiped when it is dropped.
pub fn write(label: &str, der: &[u8]) -> Zeroizing<String> {
    let encoded = Zeroizing::new(STANDARD.encode(der));
    let lines = encoded.len().div_ceil(LINE_CHARS);
    // The full capacity at once: growing would leave unwiped copies behind.
    let mut text = Zeroizing::new(String::with_capacity(
        encoded.len() + lines + 2 * label.len() + BOUNDARY_BYTES,
    ));
    text.push_str("-----BEGIN ");
    text.push_str(label);
    text.push_str("-----\n");
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, later) = rest.split_at(rest.len().min(LINE_CHARS));
        text.push_str(line);
        text.push('\n');
        rest = later;
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}

/// A block whose end has not been seen.
struct OpenBlock<'a> {
    label: &'a str,
    line: usize,
    content: Vec<&'a str>,
}

impl<'a> OpenBlock<'a> {
    fn push(&mut self, content: &'a str, line: usize) -> Result<(), PemError> {
        if content.contains(':') {
            return Err(PemError::Header { line });
        }
        match content.chars().find(|c| !is_base64_char(*c)) {
            Some(found) => Err(PemError::Character { line, found }),
            None => {
                self.content.push(content);
                Ok(())
            }
        }
    }

    fn close(self) -> Result<PemBlock, PemError> {
        let label = self.label.to_owned();
        let line = self.line;
        // Joined in one allocation: growing would leave unwiped copies behind.
        let base64 = Zeroizing::new(self.content.concat());
        match STANDARD.decode(base64.as_bytes()).map(Zeroizing::new) {
            Ok(der) if der.is_empty() => Err(PemError::EmptyBlock { line, label }),
            Ok(der) => Ok(PemBlock { label, line, der }),
            Err(source) => Err(PemError::Base64 { line, label, source }),
        }
    }
}

/// The label of a line such as `-----BEGIN CERTIFICATE-----`, or `None` when the line is no boundary.
fn boundary<'a>(content: &'a str, start: &str) -> Option<&'a str> {
    let label = content.strip_prefix(start)?.strip_suffix("-----")?;
    let plain = label
        .bytes()
        .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || matches!(byte, b' ' | b'.' | b'#'));
    (plain && !label.is_empty() && label.len() <= MAX_LABEL_BYTES).then_some(label)
}

const fn is_base64_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=')
}

/// Why a text is not the PEM that was wanted. Lines count from 1; no message repeats more
/// than one character of a block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// Longer than the limit.
    #[error("the PEM text is {bytes} bytes long, more than {limit}")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The longest that is read here.
        limit: usize,
    },
    /// More blocks than the limit.
    #[error("line {line}: the PEM text has more than {limit} block(s)")]
    TooMany {
        /// Where the first one too many begins.
        line: usize,
        /// The most that are read here.
        limit: usize,
    },
    /// No block at all.
    #[error("the PEM text has no block")]
    Empty,
    /// Text before, between or after the blocks, or a boundary that is not well formed.
    #[error("line {line}: text outside a PEM block, or a boundary that is not \"-----BEGIN <LABEL>-----\"")]
    Outside {
        /// Where.
        line: usize,
    },
    /// A block that is not closed.
    #[error("line {line}: the PEM block {label:?} has no end")]
    Unclosed {
        /// Where it begins.
        line: usize,
        /// Its label.
        label: String,
    },
    /// A block that ends with another label than it began with.
    #[error("line {line}: the PEM block {label:?} ends with another label")]
    EndLabel {
        /// Where it ends.
        line: usize,
        /// The label at its beginning.
        label: String,
    },
    /// A header (RFC 1421), such as OpenSSL writes into keys that it encrypts in the old way.
    #[error("line {line}: PEM headers are not accepted; an encrypted key must be PKCS#8")]
    Header {
        /// Where.
        line: usize,
    },
    /// A character that Base64 does not have.
    #[error("line {line}: {found:?} is not a character of Base64")]
    Character {
        /// Where.
        line: usize,
        /// The character.
        found: char,
    },
    /// Base64 that is cut short, padded wrongly, or not canonical.
    #[error("line {line}: the PEM block {label:?} is not Base64")]
    Base64 {
        /// Where the block begins.
        line: usize,
        /// Its label.
        label: String,
        /// What the decoder says.
        source: base64::DecodeError,
    },
    /// A block with nothing in it.
    #[error("line {line}: the PEM block {label:?} is empty")]
    EmptyBlock {
        /// Where it begins.
        line: usize,
        /// Its label.
        label: String,
    },
    /// A block that holds something else than what is wanted here.
    #[error("line {line}: expected the PEM block {expected:?}, found {found:?}")]
    Label {
        /// Where it begins.
        line: usize,
        /// Its label.
        found: String,
        /// The label that is wanted.
        expected: &'static str,
    },
}

/// RFC 7468 §2: generators wrap at 64 characters.
const LINE_CHARS: usize = 64;

/// Longer than any label that is registered.
const MAX_LABEL_BYTES: usize = 64;

/// Both boundaries without their labels.
const BOUNDARY_BYTES: usize = "-----BEGIN -----\n-----END -----\n".len();

#[cfg(test)]
mod tests;
