//! Serves readiness, metrics and the log level on a thread of its own.

pub mod socket;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http::header::ALLOW;
use http::{HeaderValue, Method, StatusCode};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::drain::Drain;
use crate::https::{Handler, Limits, ListenError, Reply, Request, Server, ServerMetrics, listen, reply};
use crate::logging::{Chain, Filter, Foreign, Levels};
use crate::metrics::{self, Metrics};
use crate::ready::Readiness;
use crate::tasks::Tasks;
use socket::Socket;

/// Where the admin interface listens. Each place may be left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    /// For `GET /ready`, `/live` and `/metrics` over plain HTTP, which anyone who reaches it may ask for.
    pub address: Option<SocketAddr>,
    /// For these and for whatever changes something: a Unix socket of mode 0600, so that only the program's own
    /// user and root may.
    pub socket: Option<PathBuf>,
}

/// The admin interface, before it is started.
pub struct Admin {
    readiness: Readiness,
    metrics: Metrics,
    levels: Option<Levels>,
    actions: Vec<Action>,
}

struct Action {
    path: &'static str,
    method: Method,
    run: Box<dyn Fn(Bytes) -> Reply + Send + Sync>,
}

impl Admin {
    /// Answers from `readiness` and `metrics`; with `levels`, also changes the log level.
    pub fn new(readiness: Readiness, metrics: Metrics, levels: Option<Levels>) -> Self {
        Self {
            readiness,
            metrics,
            levels,
            actions: Vec::new(),
        }
    }

    /// Adds something that the program does when it is asked to by `POST` under `path`, through the Unix socket
    /// alone. `run` is given the body of the request; it runs on the admin thread, and must not wait.
    pub fn action(self, path: &'static str, run: impl Fn(Bytes) -> Reply + Send + Sync + 'static) -> Self {
        self.offer(path, Method::POST, run)
    }

    /// Adds something that the program shows to whoever asks by `GET`; otherwise as [`Admin::action`].
    pub fn view(self, path: &'static str, run: impl Fn() -> Reply + Send + Sync + 'static) -> Self {
        self.offer(path, Method::GET, move |_| run())
    }

    fn offer(
        mut self,
        path: &'static str,
        method: Method,
        run: impl Fn(Bytes) -> Reply + Send + Sync + 'static,
    ) -> Self {
        self.actions.push(Action {
            path,
            method,
            run: Box::new(run),
        });
        self
    }

    /// Opens the places and starts to answer, on a thread and a runtime of its own, so that neither a scrape holds
    /// up the program's work nor its work a probe.
    ///
    /// # Errors
    /// When a place cannot be opened, or the thread cannot be started.
    pub fn start(
        self,
        places: &Places,
        clock: &Clock,
        counters: &ServerMetrics,
    ) -> Result<RunningAdmin, AdminError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| AdminError::Thread { source })?;
        let inside = runtime.enter();
        let tcp = places.address.map(listen).transpose()?;
        let address = tcp.as_ref().and_then(|listener| listener.local_addr().ok());
        let socket = places.socket.as_deref();
        let socket = socket.map(|path| Socket::open(path, OWNER_ALONE)).transpose()?;
        drop(inside);

        let drain = Drain::new();
        let server = |name| Server::new(name, LIMITS, clock.clone(), drain.clone(), counters);
        let (by_tcp, by_socket) = (server("admin"), server("admin_socket"));
        let (listener, path) = socket.map(Socket::split).unzip();
        let (alive, end) = oneshot::channel();
        let stop = drain.clone();
        let admin = Arc::new(self);
        let thread = std::thread::Builder::new()
            .name("admin".to_owned())
            .spawn(move || {
                let _alive = alive;
                runtime.block_on(async {
                    tokio::join!(
                        serve_tcp(by_tcp, tcp, admin.clone()),
                        serve_socket(by_socket, listener, admin),
                    );
                    drain.closing().await;
                    drain.empty().await;
                });
            })
            .map_err(|source| AdminError::Thread { source })?;
        Ok(RunningAdmin {
            address,
            _path: path,
            drain: stop,
            end: Some(end),
            thread: Some(thread),
        })
    }

    fn route(&self, method: &Method, path: &str, local: bool) -> Result<Route<'_>, No> {
        let read_only = |route: Route<'static>| match *method {
            Method::GET | Method::HEAD => Ok(route),
            _ => Err(No::Method("GET, HEAD")),
        };
        let own = self.actions.iter().find(|action| action.path == path);
        match path {
            "/ready" => read_only(Route::Ready),
            "/live" => read_only(Route::Live),
            "/metrics" => read_only(Route::Metrics),
            // Whatever changes something, or tells more than a stranger needs to know, is for those who may open
            // the socket: a request over TCP may have been put into the mouth of any program on this host.
            "/loglevel" if !local => Err(No::OnlyLocal),
            "/loglevel" => match *method {
                Method::GET => Ok(Route::ShowLevel),
                Method::POST => Ok(Route::SetLevel),
                _ => Err(No::Method("GET, POST")),
            },
            _ => match (own, method) {
                (None, _) => Err(No::NotFound),
                (Some(_), _) if !local => Err(No::OnlyLocal),
                (Some(action), method) if action.method == *method => Ok(Route::Own(action)),
                (Some(action), _) if action.method == Method::POST => Err(No::Method("POST")),
                (Some(_), _) => Err(No::Method("GET")),
            },
        }
    }

    async fn answer(&self, request: Request, local: bool) -> Reply {
        let route = match self.route(request.method(), request.uri().path(), local) {
            Ok(route) => route,
            Err(no) => return no.reply(request.uri().path()),
        };
        match route {
            Route::Live => line(StatusCode::OK, "live".to_owned()),
            Route::Ready => match self.readiness.check() {
                Ok(()) => line(StatusCode::OK, "ready".to_owned()),
                Err(missing) => line(
                    StatusCode::SERVICE_UNAVAILABLE,
                    format!("not ready: {}", missing.join(", ")),
                ),
            },
            Route::Metrics => match self.metrics.encode() {
                Ok(text) => reply(StatusCode::OK, metrics::CONTENT_TYPE, text),
                Err(_) => line(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "a metric cannot be printed".to_owned(),
                ),
            },
            Route::ShowLevel => self.level(Levels::current),
            Route::SetLevel | Route::Own(_) => {
                let body = match request.into_body().read().await {
                    Ok(body) => body,
                    Err(error) => return line(error.status(), error.to_string()),
                };
                match route {
                    Route::Own(action) => (action.run)(body),
                    _ => self.set_level(&body),
                }
            }
        }
    }

    fn level(&self, act: impl FnOnce(&Levels) -> Result<Filter, crate::logging::LogError>) -> Reply {
        let Some(levels) = &self.levels else {
            return line(
                StatusCode::NOT_FOUND,
                "this program's log level is fixed".to_owned(),
            );
        };
        match act(levels) {
            Ok(filter) => line(StatusCode::OK, filter.to_string()),
            Err(error) => line(StatusCode::BAD_REQUEST, Chain(&error).to_string()),
        }
    }

    fn set_level(&self, body: &[u8]) -> Reply {
        let text = String::from_utf8_lossy(body);
        self.level(|levels| {
            let filter: Filter = text.trim().parse()?;
            levels.set(filter.clone())?;
            tracing::info!(filter = %filter, "log level changed");
            Ok(filter)
        })
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Admin")
    }
}

enum Route<'a> {
    Ready,
    Live,
    Metrics,
    ShowLevel,
    SetLevel,
    Own(&'a Action),
}

/// The admin interface at work. Dropping it ends it, and takes the socket away.
#[derive(Debug)]
pub struct RunningAdmin {
    address: Option<SocketAddr>,
    _path: Option<socket::SocketPath>,
    drain: Drain,
    end: Option<oneshot::Receiver<()>>,
    thread: Option<JoinHandle<()>>,
}

impl RunningAdmin {
    /// Where it listens for TCP, with the port that was found when 0 was asked for.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Makes the end of the admin thread the failure of an essential task, called `admin`. Once.
    pub fn watch(&mut self, tasks: &Tasks) {
        let Some(end) = self.end.take() else { return };
        let stopping = tasks.stop_token();
        tasks.spawn("admin", async move {
            tokio::select! {
                _ = end => Err(AdminError::Ended),
                () = stopping.cancelled() => Ok(()),
            }
        });
    }
}

impl Drop for RunningAdmin {
    fn drop(&mut self) {
        self.drain.cut_now();
        if let Some(thread) = self.thread.take() {
            // A panic there has been logged where it happened.
            let _ = thread.join();
        }
    }
}

async fn serve_tcp(server: Server, listener: Option<TcpListener>, admin: Arc<Admin>) {
    if let Some(listener) = listener {
        server
            .serve_plain(listener, Arc::new(Door { admin, local: false }))
            .await;
    }
}

async fn serve_socket(server: Server, listener: Option<UnixListener>, admin: Arc<Admin>) {
    if let Some(listener) = listener {
        server
            .serve_plain(listener, Arc::new(Door { admin, local: true }))
            .await;
    }
}

/// One of the two ways in.
struct Door {
    admin: Arc<Admin>,
    local: bool,
}

impl Handler for Door {
    fn answer(&self, request: Request) -> impl Future<Output = Reply> + Send {
        let (admin, local) = (self.admin.clone(), self.local);
        async move { admin.answer(request, local).await }
    }
}

/// Why a request is not answered.
enum No {
    NotFound,
    OnlyLocal,
    /// The methods that would be answered.
    Method(&'static str),
}

impl No {
    fn reply(self, path: &str) -> Reply {
        let path = Foreign(path);
        match self {
            Self::NotFound => line(StatusCode::NOT_FOUND, format!("there is nothing at {path}")),
            Self::OnlyLocal => line(
                StatusCode::FORBIDDEN,
                format!("{path} is served through the Unix socket alone"),
            ),
            Self::Method(methods) => {
                let mut reply = line(StatusCode::METHOD_NOT_ALLOWED, format!("{path} takes {methods}"));
                reply
                    .headers_mut()
                    .insert(ALLOW, HeaderValue::from_static(methods));
                reply
            }
        }
    }
}

fn line(status: StatusCode, text: String) -> Reply {
    reply(status, "text/plain; charset=utf-8", text + "\n")
}

/// What can go wrong with the admin interface.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The address cannot be opened.
    #[error("cannot open the admin address")]
    Listen(#[from] ListenError),
    /// The socket cannot be opened.
    #[error("cannot open the socket {path}")]
    Socket {
        /// Where.
        path: String,
        /// The system's answer.
        source: io::Error,
    },
    /// Something else is in the socket's place.
    #[error("cannot open the socket {path}: {what}")]
    Taken {
        /// Where.
        path: String,
        /// What is there.
        what: &'static str,
    },
    /// The thread cannot be started.
    #[error("cannot start the admin thread")]
    Thread {
        /// The system's answer.
        source: io::Error,
    },
    /// The thread has ended.
    #[error("the admin thread has ended")]
    Ended,
}

impl AdminError {
    fn socket(path: &Path) -> impl Fn(io::Error) -> Self + Copy + '_ {
        move |source| Self::Socket {
            path: path.display().to_string(),
            source,
        }
    }
}

/// The permissions of the socket.
const OWNER_ALONE: u32 = 0o600;

/// Probes and scrapes are small and few; what is larger or more is a mistake or an attack.
const LIMITS: Limits = Limits {
    header_bytes: 8 * 1024,
    header_count: 64,
    header_time: Duration::from_secs(5),
    body_bytes: 4 * 1024,
    body_time: Duration::from_secs(5),
    request_time: Duration::from_secs(10),
    write_stall_time: Duration::from_secs(10),
    idle_time: Duration::from_secs(120),
    handshake_time: Duration::from_secs(5),
    connections: 64,
    handshakes: 1,
    connections_per_address: None,
};

#[cfg(test)]
mod tests;
