//! Tries judging among ten thousand rules; how fast that is, the benches measure.

use super::*;

#[test]
fn one_of_ten_thousand_rules_is_found() {
    let mut text = String::new();
    for at in 0..5000 {
        write!(
            text,
            "- from: [{{ identities: [spiffe://shop.local/ns/n{at}/sa/web] }}]\n  ports: [{}]\n",
            1000 + at
        )
        .unwrap();
    }
    let spec = |selector: &str, rules: &str| format!("workloads: {selector}\naction: allow\nrules:\n{rules}");
    let one = spec("{ labels: { app: api } }", &text);
    let mut documents = vec![("AccessPolicy shop/many".to_owned(), one)];
    for at in 0..5000 {
        let rule = "- from: [{ cidrs: [192.0.2.0/24] }, { identities: [\"spiffe://shop.local/ns/x/*\"] }]";
        let selector = format!("{{ labels: {{ app: other{at}, tier: \"1\" }} }}");
        documents.push((format!("AccessPolicy shop/one-{at}"), spec(&selector, rule)));
    }
    let borrowed: Vec<(&str, &str)> = documents
        .iter()
        .map(|(name, spec)| (name.as_str(), spec.as_str()))
        .collect();
    let policies: Vec<Policy> = vec![policy_in_parts(&borrowed)];
    let policy = &policies[0];
    assert_eq!(policy.rule_count(), 10_000);

    let labels = labels("api");
    let destination = Workload {
        namespace: "shop",
        name: "api",
        labels: &labels,
    };
    let known = SpiffeId::parse("spiffe://shop.local/ns/n4711/sa/web").unwrap();
    let unknown = SpiffeId::parse("spiffe://shop.local/ns/nobody/sa/web").unwrap();
    for (id, port, allowed) in [(&known, 5711, true), (&known, 80, false), (&unknown, 5711, false)] {
        let ask = Ask::Inbound(Inbound {
            source: Source::Verified(id),
            destination,
            port,
        });
        assert_eq!(judge(policy, &ask).is_allowed(), allowed);
    }
}

/// As [`policy`], but each document is a text of its own, since one text has a limit.
fn policy_in_parts(documents: &[(&str, &str)]) -> Policy {
    let read = documents.iter().flat_map(|(title, spec)| {
        let name = title.rsplit('/').next().unwrap();
        let spec = spec.replace('\n', "\n  ");
        let text = format!(
            "apiVersion: ferrule.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {{ namespace: shop, name: {name} }}\nspec:\n  {spec}\n"
        );
        PolicyDocument::read_all(title, text.as_bytes(), Limits::default()).unwrap()
    });
    compile(
        &read.collect::<Vec<_>>(),
        Mesh::named("shop.local".parse().unwrap()),
    )
    .unwrap()
}
