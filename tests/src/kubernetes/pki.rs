//! Makes a cluster's certificates, and the files by which its programs find the API server.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use serde_json::json;
use time::{Duration, OffsetDateTime};

/// Writes all of it into `folder`, for an API server at `api` and that many nodes.
pub(super) fn write(folder: &Path, api: &str, nodes: &[(String, IpAddr)]) {
    let mut params = params("ferrule-test", None);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    fs::write(folder.join("ca.crt"), root.pem()).unwrap();
    let all = Folder { folder, root };

    let mut names: Vec<SanType> = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ]
    .map(|name| SanType::DnsName(name.try_into().unwrap()))
    .into();
    names.push(SanType::IpAddress(nodes[0].1));
    names.push(SanType::IpAddress([10, 96, 0, 1].into()));
    all.server("apiserver", "kube-apiserver", None, names);
    all.client(api, "admin", "admin", Some("system:masters"));
    all.client(api, "controllers", "system:kube-controller-manager", None);
    all.client(api, "scheduler", "system:kube-scheduler", None);
    all.client(api, "proxy", "system:kube-proxy", None);
    for (name, address) in nodes {
        let user = format!("system:node:{name}");
        all.client(api, name, &user, Some("system:nodes"));
        let names = vec![SanType::IpAddress(*address)];
        all.server(&format!("{name}-serving"), &user, Some("system:nodes"), names);
    }
    let accounts = KeyPair::generate().unwrap();
    fs::write(folder.join("accounts.key"), accounts.serialize_pem()).unwrap();
    fs::write(folder.join("accounts.pub"), accounts.public_key_pem()).unwrap();
}

struct Folder<'a> {
    folder: &'a Path,
    root: CertifiedIssuer<'static, KeyPair>,
}

impl Folder<'_> {
    fn server(&self, file: &str, name: &str, group: Option<&str>, names: Vec<SanType>) {
        let mut params = params(name, group);
        params.subject_alt_names = names;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(file, &params);
    }

    /// A user's certificate, and the file that its programs are started with.
    fn client(&self, api: &str, file: &str, name: &str, group: Option<&str>) {
        let mut params = params(name, group);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(file, &params);
        let at = |ending: &str| self.folder.join(format!("{file}.{ending}"));
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "test", "cluster": {
                "server": api, "certificate-authority": self.folder.join("ca.crt"),
            } }],
            "users": [{ "name": "test", "user": { "client-certificate": at("crt"), "client-key": at("key") } }],
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test" } }],
            "current-context": "test",
        });
        fs::write(at("json"), config.to_string()).unwrap();
    }

    fn sign(&self, file: &str, params: &CertificateParams) {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.root).unwrap();
        fs::write(self.folder.join(format!("{file}.crt")), certificate.pem()).unwrap();
        fs::write(self.folder.join(format!("{file}.key")), key.serialize_pem()).unwrap();
    }
}

/// For a day: no test takes longer.
fn params(name: &str, group: Option<&str>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    if let Some(group) = group {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    params.not_before = OffsetDateTime::now_utc() - Duration::hours(1);
    params.not_after = OffsetDateTime::now_utc() + Duration::days(1);
    params
}
