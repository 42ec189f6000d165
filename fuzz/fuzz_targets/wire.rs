//! Reads any bytes as the CA's messages and as a join token.
#![no_main]

use ferrule_wire::JoinToken;
use ferrule_wire::ca::{EnrollRequest, IssueReply, IssueRequest, RevocationsReply, RevokeRequest, read};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(request) = read::<IssueRequest>(bytes) {
        let again = serde_json::to_vec(&request).expect("what was read can be written");
        assert_eq!(read::<IssueRequest>(&again).expect("what we write"), request);
    }
    let _ = read::<EnrollRequest>(bytes);
    let _ = read::<IssueReply>(bytes);
    let _ = read::<RevokeRequest>(bytes);
    if let Ok(reply) = read::<RevocationsReply>(bytes) {
        let _ = reply.to_list();
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        for text in [text.to_owned(), format!("{}{text}", JoinToken::PREFIX)] {
            if let Ok(token) = text.parse::<JoinToken>() {
                assert_eq!(
                    token.to_text().parse::<JoinToken>().expect("what we write"),
                    token
                );
            }
        }
    }
});
