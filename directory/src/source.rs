//! Where a directory knows from who lives where and what the rules are.

pub mod folder;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;

use std::convert::Infallible;

use ferrule_policy::{PolicyDocument, ServiceDocument, ServiceName, Stack, WorkloadDocument, WrittenPolicy};
use tokio::sync::{mpsc, watch};

/// Somebody who knows: a folder of documents, or a Kubernetes cluster.
pub trait Source: Send + 'static {
    /// Tells what there is to know, then every change, for ever. What cannot be read or understood changes nothing;
    /// a source logs its own faults, and lists them with [`Teller::faults`].
    fn run(self, teller: Teller) -> impl Future<Output = Infallible> + Send;
}

/// What a source tells.
#[derive(Debug, Clone)]
pub enum News {
    /// Everything that there is; what is not in it is gone.
    Everything(Stack),
    /// What came, changed or went since. All of it counts from the same moment.
    Changes(Vec<Change>),
}

/// One thing that came, changed or went.
#[derive(Debug, Clone)]
pub enum Change {
    /// A workload as it is now.
    Workload(WorkloadDocument),
    /// The workload of this namespace and name is gone.
    NoWorkload(String, String),
    /// A service as it is now.
    Service(ServiceDocument),
    /// The service of this name is gone.
    NoService(ServiceName),
    /// A rule as it is now.
    Rule(WrittenPolicy),
    /// The rule with the kind, the namespace and the name of this one is gone.
    NoRule(PolicyDocument),
}

/// Where a [`Source`] puts what it knows.
#[derive(Debug, Clone)]
pub struct Teller {
    news: mpsc::Sender<News>,
    faults: watch::Sender<Vec<String>>,
}

/// The other end of a [`Teller`].
#[derive(Debug)]
pub struct Told {
    /// What is told, in its order.
    pub news: mpsc::Receiver<News>,
    /// What cannot be used at present, a sentence for each with its place; empty when all is well.
    pub faults: watch::Receiver<Vec<String>>,
}

impl Teller {
    /// A teller, and its other end.
    pub fn new() -> (Self, Told) {
        let (news, told) = mpsc::channel(QUEUE);
        let (faults, for_faults) = watch::channel(Vec::new());
        let told = Told {
            news: told,
            faults: for_faults,
        };
        (Self { news, faults }, told)
    }

    /// Tells news; waits while those before are not taken yet.
    pub async fn tell(&self, news: News) {
        // Nobody listens any more only when the program ends.
        let _ = self.news.send(news).await;
    }

    /// Says what cannot be used at present; an empty list when all is well again.
    pub fn faults(&self, faults: Vec<String>) {
        self.faults.send_if_modified(|held| {
            let differs = *held != faults;
            *held = faults;
            differs
        });
    }
}

/// News that wait to be taken in; a source that is faster waits.
const QUEUE: usize = 64;
