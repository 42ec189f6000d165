//! Takes out of a text what looks like a secret.

use ferrule_wire::JoinToken;

/// `text` without what looks like a secret, and how many places that were. A second net: nothing that has secrets is
/// asked for in the first place.
pub(super) fn scrub(text: &str) -> (String, usize) {
    let mut clean = String::with_capacity(text.len());
    let mut found = 0;
    let mut inside = false;
    for line in text.split_inclusive('\n') {
        // A key within one line of JSON has its line breaks written as \n.
        if inside || line.contains("PRIVATE KEY-----") {
            let begins = !inside;
            let ends = line.contains("-----END") && line.contains("PRIVATE KEY-----");
            inside = !ends;
            if begins {
                found += 1;
                clean.push_str("[redacted: a private key]\n");
            }
            continue;
        }
        let (line, count) = words(line);
        found += count;
        clean.push_str(&line);
    }
    (clean, found)
}

/// The line without the words that are tokens, or that follow the name of a secret.
fn words(line: &str) -> (String, usize) {
    let mut clean = String::with_capacity(line.len());
    let mut found = 0;
    let mut told = false;
    let is_part = |c: char| c.is_ascii_alphanumeric() || "-_./+".contains(c);
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let end = if is_part(first) {
            rest.find(|c| !is_part(c)).unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        let (piece, after) = rest.split_at(end);
        rest = after;
        if is_part(first) {
            let is_secret = is_token(piece) || (told && !is_empty_value(piece));
            if is_secret {
                found += 1;
                clean.push_str("[redacted]");
            } else {
                clean.push_str(piece);
            }
            let name = piece.to_ascii_lowercase();
            // `token:`, `"password" : `, `PASSPHRASE=`; `Bearer` goes before its token without a sign between.
            let sign = after.trim_start_matches(['"', '\\', ' ']);
            told = name == "bearer"
                || (NAMES.iter().any(|word| name.ends_with(word)) && sign.starts_with([':', '=']));
        } else {
            if first == ',' || first == '{' || first == '[' {
                told = false;
            }
            clean.push_str(piece);
        }
    }
    (clean, found)
}

/// A join token, or a JSON web token.
fn is_token(word: &str) -> bool {
    word.contains(JoinToken::PREFIX) || (word.starts_with("eyJ") && word.matches('.').count() >= 2)
}

fn is_empty_value(word: &str) -> bool {
    ["null", "true", "false"].contains(&word)
}

/// What secrets are called.
const NAMES: [&str; 7] = [
    "password",
    "passphrase",
    "secret",
    "token",
    "authorization",
    "api_key",
    "apikey",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_secret_is_taken_out() {
        for secret in [
            "-----BEGIN PRIVATE KEY-----\nPLANTED\n-----END PRIVATE KEY-----\n",
            "\"key\": \"-----BEGIN EC PRIVATE KEY-----\\nPLANTED\\n-----END EC PRIVATE KEY-----\"\n",
            "{\"password\":\"PLANTED\"}",
            "{\"detail\":\"x\",\"db_password\" : \"PLANTED\",\"a\":1}",
            "DB_PASSWORD=PLANTED",
            "DB_PASSWORD= PLANTED",
            "authorization: Bearer PLANTED",
            "token: PLANTED",
            "joined with ferrule-join-1.PLANTED",
            "eyJhbGciOiJFUzI1NiJ9.PLANTED.sig",
            "-----BEGIN PRIVATE KEY-----\nPLANTED and no end",
        ] {
            let (clean, found) = scrub(secret);
            assert!(!clean.contains("PLANTED"), "{secret}: {clean}");
            assert!(found > 0, "{secret}");
        }
    }

    #[test]
    fn what_is_none_stays() {
        for text in [
            "{\"event\":\"close\",\"src_id\":\"spiffe://shop.local/ns/shop/sa/web\",\"reason\":\"finished\"}\n",
            "ferrule_connections_total{direction=\"inbound\"} 4\n",
            "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
            "the token web-1 enrols one host\n",
            "token: null\n",
        ] {
            assert_eq!(scrub(text), (text.to_owned(), 0));
        }
    }
}
