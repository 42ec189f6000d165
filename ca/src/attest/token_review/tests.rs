//! Tests of reading TokenReviews; the calls themselves are tested over HTTPS in `ca/tests/api`.

use serde_json::{Value, json};

use super::*;

fn answer(status: &Value) -> Value {
    json!({ "apiVersion": API_VERSION, "kind": KIND, "metadata": {}, "spec": { "token": "" }, "status": status })
}

/// What a real API server answers, version 1.33, shortened.
fn good() -> Value {
    json!({
        "authenticated": true,
        "audiences": ["ferrule-ca"],
        "user": {
            "username": "system:serviceaccount:shop:web",
            "uid": "7f9",
            "groups": ["system:serviceaccounts", "system:authenticated"],
            "extra": {
                "authentication.kubernetes.io/credential-id": ["JTI=1"],
                "authentication.kubernetes.io/node-name": ["node-1"],
                "authentication.kubernetes.io/pod-name": ["web-7d4b9-x2x"],
                "authentication.kubernetes.io/pod-uid": ["0d5e"],
            },
        },
    })
}

fn word(answer: &Value) -> &'static str {
    judge(answer.to_string().as_bytes(), "ferrule-ca")
        .unwrap_err()
        .word()
}

fn changed(pointer: &str, value: Value) -> Value {
    let mut status = good();
    *status.pointer_mut(pointer).unwrap() = value;
    answer(&status)
}

#[test]
fn a_bound_token_names_its_pod_and_account() {
    let holder = judge(answer(&good()).to_string().as_bytes(), "ferrule-ca").unwrap();
    assert_eq!(
        (holder.namespace.as_str(), holder.account.as_str()),
        ("shop", "web")
    );
    assert_eq!(holder.pod, "web-7d4b9-x2x");
}

#[test]
fn anything_but_a_clear_yes_is_a_no() {
    // A6, A7
    let cases = [
        (changed("/authenticated", json!(false)), "token_not_authenticated"),
        (changed("/authenticated", Value::Null), "token_not_authenticated"),
        (changed("/audiences", json!([])), "token_audience"),
        (changed("/audiences", Value::Null), "token_audience"),
        (
            changed("/audiences", json!(["https://kubernetes.default.svc"])),
            "token_audience",
        ),
        (changed("/user", Value::Null), "api_server_answer"),
        (changed("/user/extra", Value::Null), "token_not_bound"),
        (changed("/user/extra", json!({})), "token_not_bound"),
        (
            changed("/user/extra/authentication.kubernetes.io~1pod-uid", json!([])),
            "token_not_bound",
        ),
        (
            changed(
                "/user/extra/authentication.kubernetes.io~1pod-name",
                json!(["a", "b"]),
            ),
            "token_not_bound",
        ),
        (
            changed(
                "/user/extra/authentication.kubernetes.io~1pod-name",
                json!(["../web"]),
            ),
            "token_not_bound",
        ),
        (answer(&Value::Null), "api_server_answer"),
        (json!({}), "api_server_answer"),
        (
            json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure" }),
            "api_server_answer",
        ),
    ];
    for (answer, expected) in cases {
        assert_eq!(word(&answer), expected, "{answer}");
    }
    let mut with_error = good();
    with_error["error"] = json!("pod is being deleted");
    assert_eq!(word(&answer(&with_error)), "token_not_authenticated");
    for garbage in ["", "null", "[]", "<html>", "{\"status\":"] {
        assert_eq!(
            judge(garbage.as_bytes(), "ferrule-ca").unwrap_err().word(),
            "api_server_answer"
        );
    }
}

#[test]
fn names_are_checked_before_they_become_an_identity() {
    // A6: a name must not move the borders inside the ID.
    for name in [
        "admin",
        "system:node:node-1",
        "system:serviceaccount:shop",
        "system:serviceaccount::web",
        "system:serviceaccount:shop:",
        "system:serviceaccount:shop:web:more",
        "system:serviceaccount:shop/sa/admin:web",
        "system:serviceaccount:shop:web/../admin",
        "system:serviceaccount:..:web",
        "system:serviceaccount:Shop:web",
        "system:serviceaccount:shop.other:web",
        "system:serviceaccount:shop:web\u{0}",
        " system:serviceaccount:shop:web",
        "SYSTEM:serviceaccount:shop:web",
    ] {
        assert_eq!(
            word(&changed("/user/username", json!(name))),
            "token_user",
            "{name:?}"
        );
    }
    let dotted = changed("/user/username", json!("system:serviceaccount:shop:web.v2"));
    assert_eq!(
        judge(dotted.to_string().as_bytes(), "ferrule-ca")
            .unwrap()
            .account,
        "web.v2"
    );
}

#[test]
fn a_real_api_servers_no_is_a_no_and_not_an_answer_out_of_form() {
    // Version 1.34, of a token whose signature is not its own.
    let status = json!({ "user": {}, "error": "[invalid bearer token, failed to verify signature]" });
    assert_eq!(word(&answer(&status)), "token_not_authenticated");
    let nameless = changed("/user", json!({}));
    assert_eq!(word(&nameless), "token_user");
}
