//! Writes small meshes for tests.

use ferrule_identity::TrustDomain;
use ferrule_policy::{Cidr, Stack};

use crate::model::Model;
use crate::source::News;

pub(crate) fn domain() -> TrustDomain {
    TrustDomain::parse("shop.local").unwrap()
}

/// A workload whose account and label `app` are its name without the number at the end.
pub(crate) fn workload(namespace: &str, name: &str, address: &str) -> String {
    let (app, _) = name.split_once('-').unwrap();
    format!(
        "apiVersion: ferrule.dev/v1alpha1\nkind: Workload\n\
         metadata: {{ namespace: {namespace}, name: {name}, labels: {{ app: {app} }} }}\n\
         spec: {{ serviceAccount: {app}, addresses: [{address}] }}\n---\n"
    )
}

pub(crate) fn stack(text: &str) -> Stack {
    Stack::read([("mesh.yaml", text.as_bytes())], &domain()).unwrap()
}

/// The mesh that `text` describes, all of it within `ranges` where some are given.
pub(crate) fn model(text: &str, ranges: &[Cidr]) -> Model {
    let mut model = Model::new(domain(), ranges);
    model.apply(News::Everything(stack(text)));
    model
}
