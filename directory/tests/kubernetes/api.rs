//! A small API server: lists, watches, and the ways in which they break.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// The server; it ends when this is dropped.
pub(crate) struct Api {
    state: Arc<State>,
    address: SocketAddr,
    _serving: JoinSet<()>,
}

struct State {
    known: Mutex<Known>,
    /// Counts what happens, so that watches look.
    happened: watch::Sender<u64>,
}

#[derive(Default)]
struct Known {
    version: u64,
    /// Objects by plural and by namespace and name.
    objects: BTreeMap<String, BTreeMap<String, Value>>,
    /// What happened, with the version that it led to.
    history: Vec<(u64, String, Value)>,
    /// Before this version nothing is remembered.
    remembered: u64,
    is_down: bool,
    /// Watches that were begun before this number of cuts end.
    cuts: u64,
    lists: u64,
    watches: u64,
}

type Body = BoxBody<Bytes, Infallible>;

impl Api {
    /// A server without objects.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (happened, _) = watch::channel(0);
        let state = Arc::new(State {
            known: Mutex::default(),
            happened,
        });
        let mut serving = JoinSet::new();
        let shared = Arc::clone(&state);
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let state = Arc::clone(&shared);
                connections.spawn(async move {
                    let service = service_fn(move |request| answer(Arc::clone(&state), request));
                    let served = hyper::server::conn::http1::Builder::new();
                    // A client that goes away is no fault.
                    let _ = served.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self {
            state,
            address,
            _serving: serving,
        }
    }

    /// A client of it.
    pub(crate) fn client(&self) -> Client {
        let mut config = Config::new(format!("http://{}", self.address).parse().unwrap());
        config.default_retry = false;
        Client::try_from(config).unwrap()
    }

    /// A file by which programs find it.
    pub(crate) fn kubeconfig(&self) -> String {
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "small",
            "clusters": [{ "name": "small", "cluster": { "server": format!("http://{}", self.address) } }],
            "contexts": [{ "name": "small", "context": { "cluster": "small", "user": "small" } }],
            "users": [{ "name": "small", "user": {} }],
        })
        .to_string()
    }

    /// Puts an object there, or changes it.
    pub(crate) fn put(&self, plural: &str, mut object: Value) {
        let mut known = self.known();
        known.version += 1;
        object["metadata"]["resourceVersion"] = json!(known.version.to_string());
        let objects = known.objects.entry(plural.to_owned()).or_default();
        let old = objects.insert(key(&object), object.clone());
        let kind = if old.is_some() { "MODIFIED" } else { "ADDED" };
        known.note(plural, kind, object);
        drop(known);
        self.wake();
    }

    /// Takes an object away.
    pub(crate) fn delete(&self, plural: &str, key: &str) {
        let mut known = self.known();
        known.version += 1;
        let mut object = known.objects.get_mut(plural).unwrap().remove(key).unwrap();
        object["metadata"]["resourceVersion"] = json!(known.version.to_string());
        known.note(plural, "DELETED", object);
        drop(known);
        self.wake();
    }

    /// Ends all watches.
    pub(crate) fn cut(&self) {
        self.known().cuts += 1;
        self.wake();
    }

    /// Forgets what happened: whoever watches from before has to list again.
    pub(crate) fn forget(&self) {
        let mut known = self.known();
        known.history.clear();
        known.remembered = known.version;
    }

    /// Answers nobody, or everybody again.
    pub(crate) fn set_down(&self, is_down: bool) {
        self.known().is_down = is_down;
        self.cut();
    }

    /// How many lists and watches were asked for so far.
    pub(crate) fn asked(&self) -> (u64, u64) {
        let known = self.known();
        (known.lists, known.watches)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.state.known.lock().unwrap()
    }

    fn wake(&self) {
        self.state.happened.send_modify(|count| *count += 1);
    }
}

impl Known {
    fn note(&mut self, plural: &str, kind: &str, object: Value) {
        let event = json!({ "type": kind, "object": object });
        self.history.push((self.version, plural.to_owned(), event));
    }
}

fn key(object: &Value) -> String {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    format!("{}/{}", text("namespace"), text("name"))
}

async fn answer(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let plural = request
        .uri()
        .path()
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .to_owned();
    let query: BTreeMap<String, String> = request
        .uri()
        .query()
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let mut known = state.known.lock().unwrap();
    if known.is_down {
        let body =
            json!({ "kind": "Status", "status": "Failure", "reason": "ServiceUnavailable", "code": 503 });
        return Ok(reply(StatusCode::SERVICE_UNAVAILABLE, &body));
    }
    if query.get("watch").is_some_and(|value| value == "true") {
        known.watches += 1;
        let from = query.get("resourceVersion").and_then(|text| text.parse().ok());
        let cuts = known.cuts;
        drop(known);
        return Ok(watched(state, plural, from.unwrap_or(0), cuts));
    }
    known.lists += 1;
    let objects = known.objects.get(&plural).into_iter().flat_map(BTreeMap::values);
    let list = json!({
        "kind": "List", "apiVersion": "v1", "metadata": { "resourceVersion": known.version.to_string() },
        "items": objects.collect::<Vec<_>>(),
    });
    Ok(reply(StatusCode::OK, &list))
}

fn reply(status: StatusCode, body: &Value) -> Response<Body> {
    let body = Full::new(Bytes::from(body.to_string())).boxed();
    let response = Response::builder().status(status);
    response
        .header("content-type", "application/json")
        .body(body)
        .unwrap()
}

/// What happens to objects of the kind after version `from`, until the watch is cut.
fn watched(state: Arc<State>, plural: String, from: u64, cuts: u64) -> Response<Body> {
    let (sender, receiver) = mpsc::channel::<Result<Frame<Bytes>, Infallible>>(16);
    let stream = futures::stream::unfold((receiver, JoinSet::new()), {
        let mut work = Some(follow(state, plural, from, cuts, sender));
        move |(mut receiver, mut following): (mpsc::Receiver<_>, JoinSet<()>)| {
            if let Some(work) = work.take() {
                following.spawn(work);
            }
            async move { receiver.recv().await.map(|frame| (frame, (receiver, following))) }
        }
    });
    let response = Response::builder().header("content-type", "application/json");
    response.body(alone(stream).boxed()).unwrap()
}

/// A body that is only ever polled from one place.
fn alone<S>(stream: S) -> StreamBody<sync::Alone<S>> {
    StreamBody::new(sync::Alone::new(stream))
}

mod sync {
    //! Makes a stream one that may be shared, by sharing it with nobody.

    use std::pin::Pin;
    use std::sync::Mutex;
    use std::task::{Context, Poll};

    use futures::Stream;

    pub(crate) struct Alone<S>(Mutex<Pin<Box<S>>>);

    impl<S> Alone<S> {
        pub(crate) fn new(stream: S) -> Self {
            Self(Mutex::new(Box::pin(stream)))
        }
    }

    impl<S: Stream> Stream for Alone<S> {
        type Item = S::Item;

        fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<S::Item>> {
            self.get_mut().0.get_mut().unwrap().as_mut().poll_next(context)
        }
    }
}

async fn follow(
    state: Arc<State>,
    plural: String,
    mut from: u64,
    cuts: u64,
    sender: mpsc::Sender<Result<Frame<Bytes>, Infallible>>,
) {
    let mut happened = state.happened.subscribe();
    loop {
        let (lines, is_over) = {
            let known = state.known.lock().unwrap();
            let mut lines = String::new();
            if from < known.remembered {
                let status = json!({ "kind": "Status", "status": "Failure", "reason": "Expired", "code": 410, "message": "too old" });
                lines = format!("{}\n", json!({ "type": "ERROR", "object": status }));
                (lines, true)
            } else {
                for (version, of, event) in &known.history {
                    if *version > from && *of == plural {
                        lines.push_str(&format!("{event}\n"));
                    }
                }
                from = known.version;
                (lines, known.cuts != cuts)
            }
        };
        if !lines.is_empty() && sender.send(Ok(Frame::data(Bytes::from(lines)))).await.is_err() {
            return;
        }
        if is_over || happened.changed().await.is_err() {
            return;
        }
    }
}
