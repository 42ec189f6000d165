//! A proxy made of nothing but messages, which answers only when it is told to.

use std::collections::BTreeMap;
use std::sync::Arc;

use ferrule_credentials::peer;
use ferrule_daemon::dial::dial;
use ferrule_daemon::grpc::client::{Channel, Receiver, Sender};
use ferrule_daemon::grpc::{Limits, Status};
use ferrule_wire::directory::DELTA_CALL;
use ferrule_wire::directory::report::Told;
use ferrule_wire::proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use ferrule_wire::proto::google::rpc;
use prost::Message as _;

use super::mesh::{Mesh, Workload};
use crate::authority::PATIENCE;

pub(crate) struct Raw {
    sender: Sender,
    receiver: Receiver,
    _channel: Channel,
}

impl Raw {
    /// Connects as `workload`, calls itself `name`, and subscribes to all of a type that concerns it; `held` is what it
    /// says it has.
    pub(crate) async fn connect(
        mesh: &Mesh,
        workload: &Workload,
        name: &str,
        type_url: &str,
        held: BTreeMap<String, String>,
    ) -> Result<Self, Status> {
        let credentials = workload.credentials().await;
        let tcp = dial(mesh.address(), PATIENCE).await.unwrap();
        let directory = ferrule_directory::config::default_id(&mesh.authority.domain);
        let (own, trust) = (&credentials.certificate, Arc::clone(&workload.trust));
        let mut channel = peer::open(tcp, directory, own, trust, &mesh.clock, Limits::default())
            .await
            .unwrap();
        let told = Told {
            name: name.to_owned(),
            labels: Some(BTreeMap::new()),
            ..Told::default()
        };
        let first = DeltaDiscoveryRequest {
            node: Some(told.to_node()),
            type_url: type_url.to_owned(),
            initial_resource_versions: held,
            ..DeltaDiscoveryRequest::default()
        };
        let (sender, receiver) = channel.call(DELTA_CALL, &first.encode_to_vec(), PATIENCE).await?;
        Ok(Self {
            sender,
            receiver,
            _channel: channel,
        })
    }

    /// The next response; an error when the directory ends the stream.
    pub(crate) async fn next(&mut self) -> Result<DeltaDiscoveryResponse, Status> {
        let message = tokio::time::timeout(PATIENCE, self.receiver.next())
            .await
            .expect("a response comes")?
            .expect("the stream goes on");
        Ok(DeltaDiscoveryResponse::decode(message).unwrap())
    }

    /// Sends a request.
    pub(crate) async fn say(&self, request: DeltaDiscoveryRequest) {
        self.sender.send(&request.encode_to_vec()).await.unwrap();
    }

    /// Answers a response: takes it, or refuses it for a reason.
    pub(crate) async fn answer(&self, response: &DeltaDiscoveryResponse, refusal: Option<&str>) {
        let error_detail = refusal.map(|reason| rpc::Status {
            code: 3,
            message: reason.to_owned(),
            details: Vec::new(),
        });
        self.say(DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            error_detail,
            ..DeltaDiscoveryRequest::default()
        })
        .await;
    }
}

/// The names in a response, in order.
pub(crate) fn names(response: &DeltaDiscoveryResponse) -> Vec<&str> {
    let mut names: Vec<&str> = response
        .resources
        .iter()
        .map(|resource| resource.name.as_str())
        .collect();
    names.sort_unstable();
    names
}

/// What to resume from.
pub(crate) fn versions(response: &DeltaDiscoveryResponse) -> BTreeMap<String, String> {
    let version = |resource: &ferrule_wire::proto::envoy::service::discovery::v3::Resource| {
        (resource.name.clone(), resource.version.clone())
    };
    response.resources.iter().map(version).collect()
}
