//! Tests what stands on the page, and what cannot get onto it.

use serde_json::json;

use super::*;

fn view() -> Value {
    json!({
        "members": [
            { "name": "publish.shop", "identity": "spiffe://shop.local/ns/shop/sa/publish", "copies": 1 },
            { "name": "web.shop", "identity": "spiffe://shop.local/ns/shop/sa/web", "copies": 2 },
        ],
        "left_out": 7,
        "edges": [
            {
                "edge": { "who": "publish.shop", "whom": "web.shop", "port": 8000, "tls": "mutual", "verdict": "allow" },
                "traffic": { "connections": 3, "rule": "shop/web rule 1", "detail": "", "evidence": {
                    "caller": "spiffe://shop.local/ns/shop/sa/publish", "called": "spiffe://shop.local/ns/shop/sa/web",
                    "serial": "00c0ffee", "agreed": "TLSv1.3, X25519MLKEM768", "reason": "finished" } },
            },
            {
                "edge": { "who": "intruder.shop", "whom": "192.0.2.10", "port": 80, "tls": "plaintext", "verdict": "deny" },
                "traffic": { "connections": 2, "rule": "", "detail": "denied: no EgressPolicy is about it",
                    "evidence": { "caller": "spiffe://shop.local/ns/shop/sa/intruder" } },
            },
        ],
    })
}

fn goods() -> Value {
    json!({ "hops": [{ "program": "web" }], "items": [{ "name": "umbrella", "left": 0 }] })
}

fn row<'p>(page: &'p str, with: &str) -> &'p str {
    page.lines().find(|line| line.contains(with)).unwrap()
}

#[test]
fn edges_stand_there_with_identities_and_reasons() {
    let page = page(&goods(), &[], Some(&view()));
    let allowed = row(&page, "<td>8000</td>");
    for part in [
        "spiffe://shop.local/ns/shop/sa/publish",
        "spiffe://shop.local/ns/shop/sa/web",
        "class=\"good\">allowed",
        "mutual TLS<small>TLSv1.3, X25519MLKEM768",
        "shop/web rule 1",
    ] {
        assert!(allowed.contains(part), "{part}: {allowed}");
    }
    let denied = row(&page, "<td>80</td>");
    for part in [
        "class=\"bad\">denied",
        "in clear, not let through",
        "no EgressPolicy is about it",
    ] {
        assert!(denied.contains(part), "{part}: {denied}");
    }
    let publish = row(&page, "<td>publish.shop</td>");
    assert!(publish.contains("00c0ffee"), "{publish}");
    assert!(page.contains("and 7 more"));
    assert!(page.contains("mutual TLS →<br>shop/web rule 1"));
}

#[test]
fn what_others_say_stays_text() {
    let evil = "</td><script>alert('1')</script>\"&<img src=x>";
    let attempts = [json!({ "target": evil, "outcome": evil, "got_through": false, "count": 1 })];
    let goods = json!({ "hops": [{ "program": evil }], "items": [{ "name": evil, "left": 1 }] });
    let mut view = view();
    view["members"][0]["identity"] = evil.into();
    view["edges"][0]["edge"]["who"] = evil.into();
    view["edges"][0]["edge"]["verdict"] = evil.into();
    view["edges"][0]["traffic"]["detail"] = evil.into();
    for page in [
        page(&goods, &attempts, Some(&view)),
        page(&json!({ "error": evil }), &attempts, None),
    ] {
        assert!(!page.contains("<script") && !page.contains("<img"), "{page}");
        assert!(page.contains("&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&quot;&amp;&lt;img src=x&gt;"));
    }
}

#[test]
fn without_a_mesh_the_page_says_so() {
    let page = page(&goods(), &[], None);
    assert!(page.contains("not shown to this page"));
    assert!(page.contains("disabled"), "the last umbrella is sold");
}

#[test]
fn nothing_is_fetched_from_elsewhere() {
    let page = page(&goods(), &[], Some(&view()));
    for from in [
        "http://", "https://", "src=", "url(", "@import", "<link", "<script",
    ] {
        assert!(!page.contains(from), "{from}");
    }
}
