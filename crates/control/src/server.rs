// SPDX-License-Identifier: Apache-2.0
//! The API: HTTP/1.1 on a Unix socket for root, in one thread with a runtime of its own. Who is named as an approver may
//! read, and answer questions.
//!
//! Input: requests of local clients. Output: the published [`View`](crate::View), and [`Request`]s for the agent.
//! INVARIANT: nothing here waits for the agent's hot thread except the one client that gave a command.

use crate::api::{Answer, COMMAND_SECONDS_MAX, ControlCommand, REQUEST_BYTES_MAX, Refusal, Request, UndoTarget};
use crate::view::Published;
use axum::Router;
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Json, Path as UrlPath, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::IncomingStream;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::task::{Context, Poll};
use std::time::Duration;
use thymus_engine::IncidentId;
use thymus_engine::incident::Picture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// LIMIT: connections at a time; further ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 32;
/// LIMIT: seconds that a connection may live, so that a client that hangs gives its place back.
const CONNECTION_SECONDS_MAX: u64 = COMMAND_SECONDS_MAX + 30;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot make the directory of the socket `{path}`")]
    Directory {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("another agent answers at `{path}`; end it first, or choose another place with --socket")]
    InUse { path: PathBuf },
    #[error("`{path}` is there and is not a socket; move it away, or choose another place with --socket")]
    NotASocket { path: PathBuf },
    #[error("cannot listen on the socket `{path}`")]
    Listen {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot start the thread of the API")]
    Thread(#[source] io::Error),
}

/// The running API. Dropping it ends the thread and removes the socket.
#[derive(Debug)]
pub struct Server {
    socket: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    /// Returns when the socket accepts connections. `commands` is read by the agent; when it is full, commands are refused.
    /// `approvers`: users besides root who may read, and answer questions.
    pub fn start(
        socket: &Path,
        published: Published,
        commands: SyncSender<Request>,
        approvers: Vec<u32>,
    ) -> Result<Self, Error> {
        let listener = listen(socket, !approvers.is_empty())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Thread)?;
        let (stop, stopped) = oneshot::channel();
        let routes = routes(Desk { published, commands });
        let at = socket.to_owned();
        let run = move || {
            runtime.block_on(async move {
                match Known::new(listener, approvers) {
                    Ok(listener) => {
                        let routes = routes.into_make_service_with_connect_info::<Peer>();
                        let serve = axum::serve(listener, routes);
                        tokio::select! {
                            ended = std::future::IntoFuture::into_future(serve) => {
                                if let Err(error) = ended {
                                    tracing::error!(%error, "the API ended");
                                }
                            }
                            _ = stopped => {}
                        }
                    }
                    Err(error) => tracing::error!(%error, socket = %at.display(), "the API cannot listen"),
                }
            });
        };
        let thread = std::thread::Builder::new().name("thymus-api".into()).spawn(run).map_err(Error::Thread)?;
        Ok(Self { socket: socket.to_owned(), stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // The thread may have ended before: then there is nobody to tell.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
        drop(std::fs::remove_file(&self.socket));
    }
}

/// A socket that only its owner can open, from its first instant: it is made under a name in a directory of its own
/// (mode 0700) and moved to its place. With `others`, everybody can, and the kernel's word on who it is decides.
fn listen(socket: &Path, others: bool) -> Result<std::os::unix::net::UnixListener, Error> {
    use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
    let directory = socket.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let failed = |source| Error::Directory { path: directory.to_owned(), source };
    let mode = if others { 0o711 } else { 0o700 };
    std::fs::DirBuilder::new().recursive(true).mode(mode).create(directory).map_err(failed)?;
    if others && std::fs::metadata(directory).is_ok_and(|found| found.mode() & 0o001 == 0) {
        tracing::warn!(directory = %directory.display(), "approvers cannot reach the socket: chmod o+x the directory");
    }
    if let Ok(found) = std::fs::symlink_metadata(socket) {
        if !found.file_type().is_socket() {
            return Err(Error::NotASocket { path: socket.to_owned() });
        }
        if std::os::unix::net::UnixStream::connect(socket).is_ok() {
            return Err(Error::InUse { path: socket.to_owned() });
        }
    }
    let failed = |source| Error::Listen { path: socket.to_owned(), source };
    let nursery = directory.join(format!(".thymus-{}", std::process::id()));
    drop(std::fs::remove_dir_all(&nursery));
    std::fs::DirBuilder::new().mode(0o700).create(&nursery).map_err(failed)?;
    let born = nursery.join("s");
    let listener = std::os::unix::net::UnixListener::bind(&born).and_then(|listener| {
        let mode = if others { 0o666 } else { 0o600 };
        std::fs::set_permissions(&born, std::fs::Permissions::from_mode(mode))?;
        listener.set_nonblocking(true)?;
        std::fs::rename(&born, socket)?;
        Ok(listener)
    });
    drop(std::fs::remove_dir_all(&nursery));
    listener.map_err(failed)
}

/// Who is at the other end, as the kernel tells.
#[derive(Clone, Copy, Debug)]
struct Peer {
    uid: u32,
    /// An approver, who is neither root nor the agent's own user.
    approver: bool,
}

impl Connected<IncomingStream<'_, Known>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Known>) -> Self {
        stream.io().peer
    }
}

/// Hands on connections of root, of the agent's own user and of approvers; drops all others before a byte is read.
struct Known {
    listener: UnixListener,
    owner: u32,
    approvers: Vec<u32>,
    places: Arc<Semaphore>,
}

impl Known {
    fn new(listener: std::os::unix::net::UnixListener, approvers: Vec<u32>) -> io::Result<Self> {
        let owner = std::fs::metadata("/proc/self")?.uid();
        Ok(Self {
            listener: UnixListener::from_std(listener)?,
            owner,
            approvers,
            places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        })
    }

    fn know(&self, uid: u32) -> Option<Peer> {
        let approver = uid != 0 && uid != self.owner;
        (!approver || self.approvers.contains(&uid)).then_some(Peer { uid, approver })
    }
}

impl axum::serve::Listener for Known {
    type Io = Connection;
    type Addr = tokio::net::unix::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            // INVARIANT: the semaphore is never closed, so a place always comes.
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { continue };
            match self.listener.accept().await {
                Ok((stream, address)) => match stream.peer_cred() {
                    Ok(found) => match self.know(found.uid()) {
                        Some(peer) => {
                            let deadline = tokio::time::sleep(Duration::from_secs(CONNECTION_SECONDS_MAX));
                            return (Connection { stream, peer, deadline: Box::pin(deadline), _place: place }, address);
                        }
                        None => {
                            tracing::warn!(uid = found.uid(), "refused a client that is neither root nor an approver")
                        }
                    },
                    Err(error) => tracing::warn!(%error, "refused a client whose user the kernel does not tell"),
                },
                // Out of descriptors or memory: wait a little, others give theirs back.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a client");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// A client's connection: holds one of the places, and ends at its deadline.
struct Connection {
    stream: UnixStream,
    peer: Peer,
    deadline: Pin<Box<tokio::time::Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// What a handler has at hand.
#[derive(Clone)]
struct Desk {
    published: Published,
    commands: SyncSender<Request>,
}

fn routes(desk: Desk) -> Router {
    Router::new()
        .route("/v1/status", get(async |State(desk): State<Desk>| Json(desk.published.read().status())))
        .route("/v1/doctor", get(async |State(desk): State<Desk>| Json(desk.published.read().doctor.clone())))
        .route("/v1/baseline", get(async |State(desk): State<Desk>| Json(desk.published.read().baseline.clone())))
        .route(
            "/v1/golden",
            get(async |State(desk): State<Desk>| Json(desk.published.read().baseline.golden.recorded.clone())),
        )
        .route("/v1/incidents", get(async |State(desk): State<Desk>| Json(desk.published.read().summaries())))
        .route("/v1/incidents/{id}", get(incident))
        .route("/v1/incidents/{id}/picture", get(picture))
        .route("/v1/commands", post(command))
        .route("/v1/undo", post(undo))
        .fallback(async || refuse(StatusCode::NOT_FOUND, "no such page; the API's pages are listed in docs/api.md"))
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
        .with_state(desk)
}

async fn incident(State(desk): State<Desk>, UrlPath(id): UrlPath<u64>) -> Response {
    let view = desk.published.read();
    match view.incident(IncidentId(id)) {
        Some(incident) => Json(crate::view::Told::of(&view, incident)).into_response(),
        None => unknown(id),
    }
}

async fn picture(State(desk): State<Desk>, UrlPath(id): UrlPath<u64>) -> Response {
    match desk.published.read().incident(IncidentId(id)) {
        Some(incident) => Json(Picture::of(incident)).into_response(),
        None => unknown(id),
    }
}

fn unknown(id: u64) -> Response {
    refuse(StatusCode::NOT_FOUND, format!("there is no incident {id}; `thymus incidents` lists them"))
}

async fn command(
    State(desk): State<Desk>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Json(command): Json<ControlCommand>,
) -> Response {
    give(&desk, peer, command).await
}

async fn undo(
    State(desk): State<Desk>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Json(target): Json<UndoTarget>,
) -> Response {
    give(&desk, peer, ControlCommand::Undo(target)).await
}

/// Puts a command in the agent's queue and waits for its answer, at most [`COMMAND_SECONDS_MAX`].
async fn give(desk: &Desk, peer: Peer, command: ControlCommand) -> Response {
    if peer.approver && !command.is_an_answer() {
        return refuse(StatusCode::FORBIDDEN, "an approver may read, approve and deny; the rest is for root");
    }
    let (request, answer) = Request::new(command, peer.uid);
    match desk.commands.try_send(request) {
        Ok(()) => {}
        Err(TrySendError::Full(_)) => {
            return refuse(StatusCode::SERVICE_UNAVAILABLE, "too many commands wait for the agent; try again");
        }
        Err(TrySendError::Disconnected(_)) => return refuse(StatusCode::SERVICE_UNAVAILABLE, ENDING),
    }
    match tokio::time::timeout(Duration::from_secs(COMMAND_SECONDS_MAX), answer).await {
        Ok(Ok(answer)) => Json::<Answer>(answer).into_response(),
        Ok(Err(_)) => refuse(StatusCode::SERVICE_UNAVAILABLE, ENDING),
        Err(_) => {
            let text =
                format!("the agent did not answer within {COMMAND_SECONDS_MAX} seconds; the command may still happen");
            refuse(StatusCode::GATEWAY_TIMEOUT, text)
        }
    }
}

const ENDING: &str = "the agent is ending and takes no commands";

fn refuse(status: StatusCode, error: impl Into<String>) -> Response {
    (status, Json(Refusal { error: error.into() })).into_response()
}
