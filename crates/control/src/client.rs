// SPDX-License-Identifier: Apache-2.0
//! The client side of the API, for the command line: one request, one answer, one deadline.

use crate::api::{ANSWER_BYTES_MAX, Answer, COMMAND_SECONDS_MAX, ControlCommand, Refusal, UndoTarget};
use crate::view::{Baseline, Doctor, Status, Summary, Told};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use thymus_engine::IncidentId;
use thymus_engine::golden::Golden;

/// Seconds to wait for an answer that needs no work.
const READ_SECONDS_MAX: u64 = 10;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no agent answers at `{socket}`: is `thymus up` running?")]
    NoAgent {
        socket: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("only root may speak with the agent at `{socket}`: try it with sudo")]
    NotRoot { socket: PathBuf },
    #[error("the agent at `{socket}` did not answer within {seconds} seconds")]
    Silent { socket: PathBuf, seconds: u64 },
    #[error("{0}")]
    Refused(String),
    #[error("the agent at `{socket}` sent an answer that this version does not understand: {detail}")]
    Foreign { socket: PathBuf, detail: String },
    #[error("cannot speak with the agent at `{socket}`")]
    Broken {
        socket: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Speaks with the agent that listens on one socket. Every call blocks, at most until its deadline.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    pub fn status(&self) -> Result<Status, Error> {
        self.get("/v1/status")
    }

    pub fn doctor(&self) -> Result<Doctor, Error> {
        self.get("/v1/doctor")
    }

    pub fn baseline(&self) -> Result<Baseline, Error> {
        self.get("/v1/baseline")
    }

    /// The recorded golden state, whole.
    pub fn golden(&self) -> Result<Golden, Error> {
        self.get("/v1/golden")
    }

    pub fn incidents(&self) -> Result<Vec<Summary>, Error> {
        self.get("/v1/incidents")
    }

    pub fn incident(&self, id: IncidentId) -> Result<Told, Error> {
        self.get(&format!("/v1/incidents/{id}"))
    }

    pub fn command(&self, command: &ControlCommand) -> Result<Answer, Error> {
        self.post("/v1/commands", command)
    }

    pub fn undo(&self, target: UndoTarget) -> Result<Answer, Error> {
        self.post("/v1/undo", &target)
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.request(Method::GET, path, Vec::new(), READ_SECONDS_MAX)
    }

    fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Error> {
        let body = serde_json::to_vec(body).map_err(|source| self.broken(source))?;
        self.request(Method::POST, path, body, COMMAND_SECONDS_MAX + READ_SECONDS_MAX)
    }

    fn request<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
        seconds: u64,
    ) -> Result<T, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|source| self.broken(source))?;
        let answered = runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(seconds), self.exchange(method, path, body)).await
        });
        let silent = |_| Error::Silent { socket: self.socket.clone(), seconds };
        let (status, bytes) = answered.map_err(silent)??;
        let foreign =
            |error: serde_json::Error| Error::Foreign { socket: self.socket.clone(), detail: error.to_string() };
        if status.is_success() {
            serde_json::from_slice(&bytes).map_err(foreign)
        } else {
            let refusal = serde_json::from_slice::<Refusal>(&bytes).map(|refusal| refusal.error);
            // The framework's own refusals (a body that does not parse) are plain text.
            Err(Error::Refused(refusal.unwrap_or_else(|_| format!("{status}: {}", String::from_utf8_lossy(&bytes)))))
        }
    }

    async fn exchange(&self, method: Method, path: &str, body: Vec<u8>) -> Result<(StatusCode, Bytes), Error> {
        let stream = tokio::net::UnixStream::connect(&self.socket).await.map_err(|source| match source.kind() {
            io::ErrorKind::PermissionDenied => Error::NotRoot { socket: self.socket.clone() },
            _ => Error::NoAgent { socket: self.socket.clone(), source },
        })?;
        let io = hyper_util::rt::TokioIo::new(stream);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(io).await.map_err(|source| self.broken(source))?;
        let request = hyper::Request::builder()
            .method(method)
            .uri(path)
            .header("host", "thymus")
            .header("content-type", "application/json")
            .header("connection", "close")
            .body(Full::new(Bytes::from(body)))
            .map_err(|source| self.broken(source))?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(|source| self.broken(source))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
            Ok((status, body.map_err(|source| self.broken(source))?.to_bytes()))
        };
        tokio::pin!(exchange);
        tokio::select! {
            answer = &mut exchange => answer,
            ended = connection => match ended {
                // The connection is done first when the answer was read with it.
                Ok(()) => exchange.await,
                Err(source) => Err(self.broken(source)),
            },
        }
    }

    fn broken(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::Broken { socket: self.socket.clone(), source: source.into() }
    }
}
