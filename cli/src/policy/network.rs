//! `ferrule policy network`: writes the NetworkPolicies that leave open between pods what rules allow, and no more.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::process::ExitCode;

use ferrule_identity::TrustDomain;
use ferrule_policy::{
    AccessPolicy, Action, IdentityPattern, PolicyDocument, Ports, SourcePattern, Workloads,
};

use super::arguments::Network;
use super::files::read;
use crate::context::Context;
use crate::failure::{EXIT_WRONG, Failure};

pub(super) fn run(arguments: &Network, context: &Context) -> Result<ExitCode, Failure> {
    let read = read(&arguments.paths, &arguments.trust_domain)?;
    if !read.problems.is_empty() {
        context.printer.line(&read.problems.to_string())?;
        return Ok(ExitCode::from(EXIT_WRONG));
    }
    let rules = read.documents.iter().filter_map(|document| match document {
        PolicyDocument::Access(access) => Some(access),
        PolicyDocument::Egress(_) | PolicyDocument::Mesh(_) => None,
    });
    let mut namespaces: BTreeMap<&str, Vec<&AccessPolicy>> = arguments
        .namespaces
        .iter()
        .map(|namespace| (namespace.as_str(), Vec::new()))
        .collect();
    for rule in rules {
        namespaces.entry(&rule.meta.namespace).or_default().push(rule);
    }
    if namespaces.is_empty() {
        return Err(Failure::Missing {
            message: "no AccessPolicy is there; name the namespaces with --namespace".to_owned(),
        });
    }
    let mut documents = Vec::new();
    for (namespace, rules) in &namespaces {
        documents.push(base(namespace, &arguments.system, &arguments.trust_domain));
        for rule in rules.iter().filter(|rule| rule.action == Action::Allow) {
            documents.push(opened(rule, &arguments.trust_domain));
        }
    }
    context.printer.line(documents.join("---\n").trim_end())?;
    Ok(ExitCode::SUCCESS)
}

/// What every pod of a meshed namespace needs, with everything else shut: names, the mesh's control plane, and other
/// pods of the mesh, where their own namespaces' policies and both sidecars decide further.
fn base(namespace: &str, system: &str, trust_domain: &TrustDomain) -> String {
    format!(
        "\
# Shut but for what follows here and in the others; the mesh is {trust_domain}.
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: ferrule-mesh
  namespace: {namespace}
  labels: {{ app.kubernetes.io/managed-by: ferrule }}
spec:
  podSelector: {{}}
  policyTypes: [Ingress, Egress]
  # Metrics of the sidecars, in clear. Probes come from the node itself, which is always let in.
  ingress:
  - ports: [{{ port: 15020, protocol: TCP }}]
  egress:
  # Other pods of the mesh, in mutual TLS, on the ports of their applications.
  - to:
    - namespaceSelector: {{ matchLabels: {{ ferrule.dev/inject: enabled }} }}
    ports: [{{ port: 1, endPort: 65535, protocol: TCP }}]
  # The CA and the directory.
  - to:
    - namespaceSelector: {{ matchLabels: {{ kubernetes.io/metadata.name: {system} }} }}
    ports: [{{ port: 15010, protocol: TCP }}, {{ port: 15012, protocol: TCP }}]
  - to:
    - namespaceSelector: {{ matchLabels: {{ kubernetes.io/metadata.name: kube-system }} }}
    ports: [{{ port: 53, protocol: UDP }}, {{ port: 53, protocol: TCP }}]
"
    )
}

/// What one rule document lets in, as far as a NetworkPolicy can say it: namespaces and addresses, not accounts.
fn opened(policy: &AccessPolicy, trust_domain: &TrustDomain) -> String {
    let (namespace, name) = (&policy.meta.namespace, &policy.meta.name);
    let selector = match &policy.workloads {
        Workloads::AllOfNamespace => "{}".to_owned(),
        Workloads::Labelled(labels) => {
            let labels: Vec<String> = labels
                .iter()
                .map(|(name, value)| format!("{}: {}", quoted(name), quoted(value)))
                .collect();
            format!("{{ matchLabels: {{ {} }} }}", labels.join(", "))
        }
    };
    let mut text = format!(
        "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {}
  namespace: {namespace}
  labels: {{ app.kubernetes.io/managed-by: ferrule }}
spec:
  podSelector: {selector}
  policyTypes: [Ingress]
  ingress:
",
        named(name)
    );
    for rule in &policy.rules {
        let from: BTreeSet<String> = rule.from.iter().map(|from| peer(from, trust_domain)).collect();
        let ports = match &rule.ports {
            Ports::All => "{ port: 1, endPort: 65535, protocol: TCP }".to_owned(),
            Ports::Only(ports) => {
                let ports: Vec<String> = ports
                    .iter()
                    .map(|port| format!("{{ port: {port}, protocol: TCP }}"))
                    .collect();
                ports.join(", ")
            }
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  - from:");
        for peer in from {
            let _ = writeln!(text, "    - {peer}");
        }
        let _ = writeln!(text, "    ports: [{ports}]");
    }
    text
}

/// Who a caller can be, to a network that knows no identities. Never less than the rule says: the sidecar refuses
/// the rest.
fn peer(from: &SourcePattern, trust_domain: &TrustDomain) -> String {
    let namespace = match from {
        SourcePattern::Cidr(cidr) => return format!("ipBlock: {{ cidr: {} }}", quoted(&cidr.to_string())),
        SourcePattern::Namespace(namespace) => Some(namespace.to_string()),
        SourcePattern::Identity(IdentityPattern::Exact(id)) => id
            .namespace_and_account()
            .filter(|_| id.is_in(trust_domain))
            .map(|(namespace, _)| namespace.to_owned()),
        SourcePattern::Identity(IdentityPattern::Below(ancestor)) => {
            let ours = format!("spiffe://{trust_domain}/ns/");
            let namespace = ancestor.strip_prefix(&ours);
            namespace.and_then(|rest| Some(rest.split('/').next()?.to_owned()))
        }
    };
    match namespace {
        Some(namespace) => format!(
            "namespaceSelector: {{ matchLabels: {{ kubernetes.io/metadata.name: {} }} }}",
            quoted(&namespace)
        ),
        // Whoever is of another mesh may come from anywhere that is let in at all.
        None if is_foreign(from, trust_domain) => "ipBlock: { cidr: \"0.0.0.0/0\" }".to_owned(),
        None => "namespaceSelector: { matchLabels: { ferrule.dev/inject: enabled } }".to_owned(),
    }
}

fn is_foreign(from: &SourcePattern, trust_domain: &TrustDomain) -> bool {
    match from {
        SourcePattern::Identity(IdentityPattern::Exact(id)) => !id.is_in(trust_domain),
        SourcePattern::Identity(IdentityPattern::Below(ancestor)) => {
            let ours = format!("spiffe://{trust_domain}");
            let rest = ancestor.strip_prefix(&ours);
            !rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
        SourcePattern::Namespace(_) | SourcePattern::Cidr(_) => false,
    }
}

/// The name of the NetworkPolicy of a rule, apart from those that people write.
fn named(rule: &str) -> String {
    format!("ferrule-allow-{rule}")
}

/// A scalar that no YAML reader takes for anything but this text.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
