//! Writes checked types as the texts and numbers that the log's JSON carries.

/// Types with one text form: fingerprints, serials, trust domains.
pub(super) mod text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(in crate::ledger) fn serialize<T: Display, S: Serializer>(
        value: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(in crate::ledger) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// Lists of types with one text form.
pub(super) mod texts {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(in crate::ledger) fn serialize<T: Display, S: Serializer>(
        values: &[T],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(values.iter().map(ToString::to_string))
    }

    pub(in crate::ledger) fn deserialize<'de, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        Vec::<String>::deserialize(deserializer)?
            .iter()
            .map(|text| text.parse().map_err(de::Error::custom))
            .collect()
    }
}

/// Instants, as Unix seconds.
pub(super) mod seconds {
    use ferrule_identity::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(in crate::ledger) fn serialize<S: Serializer>(
        time: &Timestamp,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(time.unix())
    }

    pub(in crate::ledger) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Timestamp, D::Error> {
        i64::deserialize(deserializer).map(Timestamp::from_unix)
    }
}

/// Public keys, as their SubjectPublicKeyInfo in base64 beside their fingerprint.
pub(super) mod public_key {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use ferrule_identity::PublicKey;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    #[derive(Serialize, Deserialize)]
    struct Written {
        fingerprint: String,
        spki: String,
    }

    pub(in crate::ledger) fn serialize<S: Serializer>(
        key: &PublicKey,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let written = Written {
            fingerprint: key.fingerprint().to_string(),
            spki: STANDARD.encode(key.spki_der()),
        };
        written.serialize(serializer)
    }

    pub(in crate::ledger) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<PublicKey, D::Error> {
        let written = Written::deserialize(deserializer)?;
        let spki = STANDARD.decode(written.spki).map_err(de::Error::custom)?;
        let key = PublicKey::from_spki_der(&spki).map_err(de::Error::custom)?;
        if key.fingerprint().to_string() != written.fingerprint {
            return Err(de::Error::custom("the fingerprint is not the key's"));
        }
        Ok(key)
    }
}
