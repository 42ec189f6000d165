//! Carries questions about those of whom nobody has told, from connections to the source of knowledge.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// Asks; cheap to clone.
#[derive(Debug, Clone)]
pub struct Asker(mpsc::Sender<Question>);

/// Where questions come out.
pub type Questions = mpsc::Receiver<Question>;

/// Who is called that, as the directory names them? Dropping it is an answer, too: nobody knows.
#[derive(Debug)]
pub struct Question {
    /// The name: an address or a service, as [`address_name`](ferrule_wire::directory::address::address_name) and
    /// [`service_name`](ferrule_wire::directory::address::service_name) write it.
    pub name: String,
    /// Told once what there is to know is in the map.
    pub answered: oneshot::Sender<()>,
}

impl Asker {
    /// Asks, and waits for at most `limit` until the answer is in the map; false when none came.
    pub async fn ask(&self, name: String, limit: Duration) -> bool {
        let (answered, answer) = oneshot::channel();
        let asking = async {
            self.0.send(Question { name, answered }).await.ok()?;
            answer.await.ok()
        };
        matches!(timeout(limit, asking).await, Ok(Some(())))
    }
}

/// A queue of questions.
pub(super) fn queue() -> (Asker, Questions) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (Asker(sender), receiver)
}

/// Questions that wait to be asked; further connections wait for their turn, within their own limit.
const QUEUE: usize = 256;
