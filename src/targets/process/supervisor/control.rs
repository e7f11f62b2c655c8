//! How runners reach the supervisor: HTTP on a unix socket in the state folder.

use std::{
    fs::{self, File, Permissions},
    io,
    os::{fd::AsRawFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::{get, post},
};
use tokio::{
    net::{TcpListener, UnixListener},
    task::JoinHandle,
};

use super::{Supervisor, orders::Outcome};
use crate::targets::process::wire::{Refusal, Report, Request};

const CONTROL_SOCKET: &str = "control.sock";
pub const ORDERS_PATH: &str = "/v1/orders";
pub const REPORT_PATH: &str = "/v1/report";

/// A name of the socket that is short enough for the kernel, however long the folder's is; valid while the opened
/// folder is held.
pub fn short_socket_path(state_dir: &Path) -> io::Result<(File, PathBuf)> {
    let dir = File::open(state_dir)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/{CONTROL_SOCKET}", dir.as_raw_fd()));
    Ok((dir, path))
}

/// Listens for orders. Only the owner of the state folder can give any.
pub fn open(supervisor: Arc<Supervisor>) -> io::Result<JoinHandle<()>> {
    let (_dir, path) = short_socket_path(&supervisor.state_dir)?;
    // A socket left over from a killed supervisor; we hold the lock, so it is nobody's.
    match fs::remove_file(&path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    let app = Router::new()
        .route(ORDERS_PATH, post(order))
        .route(REPORT_PATH, get(report))
        .route("/metrics", get(metrics))
        .with_state(supervisor);
    Ok(tokio::spawn(async move {
        // It ends only with the task.
        let _ = axum::serve(listener, app).await;
    }))
}

/// The page for Prometheus and for gates, which speak TCP.
pub fn open_metrics(supervisor: Arc<Supervisor>, listener: TcpListener) -> JoinHandle<()> {
    let app = Router::new().route("/metrics", get(metrics)).with_state(supervisor);
    tokio::spawn(async move {
        // It ends only with the task.
        let _ = axum::serve(listener, app).await;
    })
}

/// An order is carried out to its end also when the one who gave it goes away.
async fn order(State(supervisor): State<Arc<Supervisor>>, Json(request): Json<Request>) -> Json<Outcome> {
    let doing = tokio::spawn(async move { supervisor.perform(request).await });
    let outcome = doing.await;
    Json(outcome.unwrap_or_else(|error| Err(Refusal::World(format!("the supervisor failed at it: {error}")))))
}

async fn report(State(supervisor): State<Arc<Supervisor>>) -> Json<Report> {
    Json(supervisor.report())
}

async fn metrics(State(supervisor): State<Arc<Supervisor>>) -> impl IntoResponse {
    let page = tokio::task::spawn_blocking(move || supervisor.metrics_page()).await;
    match page {
        Ok(page) => {
            (StatusCode::OK, [(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], page)
        }
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, [(CONTENT_TYPE, "text/plain; charset=utf-8")], error.to_string())
        }
    }
}
