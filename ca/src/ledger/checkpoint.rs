//! Vouches for a row, and so for all rows before it, with the replica's signature.

use ferrule_identity::{KeyError, PrivateKey, PublicKey, Timestamp};

use super::chain::{Head, RowHash};

/// What a replica signs: that its chain stood at this row then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The trust domain that the CA serves.
    pub trust_domain: String,
    /// The replica whose chain it is.
    pub replica: String,
    /// The last row's epoch, number and hash.
    pub head: Head,
    /// When it was signed, by the replica's clock.
    pub time: Timestamp,
}

impl Statement {
    /// Signs the statement.
    ///
    /// # Errors
    /// When the key does not sign.
    pub fn sign(&self, key: &PrivateKey) -> Result<Vec<u8>, KeyError> {
        key.sign(&self.message())
    }

    /// Checks that `key` signed the statement.
    ///
    /// # Errors
    /// When it did not.
    pub fn verify(&self, key: &PublicKey, signature: &[u8]) -> Result<(), KeyError> {
        key.verify(&self.message(), signature)
    }

    /// The octets that are signed: a fixed first field and then every field, each preceded by its length in octets
    /// as a 64-bit big-endian number.
    fn message(&self) -> Vec<u8> {
        let fields: [&[u8]; 7] = [
            b"ferrule ledger checkpoint 1",
            self.trust_domain.as_bytes(),
            self.replica.as_bytes(),
            &self.head.epoch.to_be_bytes(),
            &self.head.sequence.to_be_bytes(),
            self.head.hash.as_bytes(),
            &self.time.unix().to_be_bytes(),
        ];
        let mut message = Vec::new();
        for field in fields {
            message.extend_from_slice(&(field.len() as u64).to_be_bytes());
            message.extend_from_slice(field);
        }
        message
    }
}

/// A statement as it lies in the ledger, without what the chain says already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The row that it vouches for.
    pub sequence: u64,
    /// The hash that it states.
    pub hash: RowHash,
    /// When it was signed.
    pub time: Timestamp,
    /// The signature over the [`Statement`].
    pub signature: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use ferrule_identity::KeyAlgorithm;

    use super::*;

    #[test]
    fn every_field_is_signed() {
        let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
        let statement = Statement {
            trust_domain: "shop.local".into(),
            replica: "r1".into(),
            head: Head {
                epoch: 1,
                sequence: 7,
                hash: RowHash::new([3; 32]),
            },
            time: Timestamp::from_unix(100),
        };
        let signature = statement.sign(&key).unwrap();
        let public = key.public_key();
        assert!(statement.verify(public, &signature).is_ok());
        let changes: [fn(&mut Statement); 6] = [
            |s| s.trust_domain = "shop.locals".into(),
            |s| s.replica = "1".into(),
            |s| s.head.epoch = 2,
            |s| s.head.sequence = 8,
            |s| s.head.hash = RowHash::NONE,
            |s| s.time = Timestamp::from_unix(101),
        ];
        for change in changes {
            let mut other = statement.clone();
            change(&mut other);
            assert!(other.verify(public, &signature).is_err(), "{other:?}");
        }
    }
}
