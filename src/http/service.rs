//! From a request's head to whoever answers it. The hot path is matched before axum; axum serves the control plane.

use std::convert::Infallible;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt;
use http::header::{ALLOW, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, ORIGIN, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tower_service::Service;

use super::host;
use super::plane::envelope;
use super::plane::shape::Shape;
use super::reply::{allow_any, note, permission};
use super::streams::Moves;
use super::wire::{Busy, Phase};
use crate::api::ask::Task;
use crate::clock::Moment;
use crate::fault::{Fault, Kind};
use crate::gateway::Gateway;
use crate::gateway::answer::Answer;
use crate::gateway::body;
use crate::gateway::chat::Arrival;
use crate::gateway::settings::Sizes;
use crate::ids::RequestId;

/// Longest path and query that is taken, in bytes.
const MAX_PATH: usize = 8 * 1024;

/// An answer's body, whoever made it. Tells the connection when it has been handed out.
#[derive(Debug)]
pub struct Out {
    inner: Inner,
    moves: Option<Arc<Moves>>,
    _busy: Busy,
}

#[derive(Debug)]
enum Inner {
    Path(Answer),
    Plane(axum::body::Body),
}

impl Body for Out {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let out = self.get_mut();
        let polled = match &mut out.inner {
            Inner::Path(answer) => {
                Pin::new(answer).poll_frame(context).map_err(|never: Infallible| match never {})
            }
            Inner::Plane(body) => Pin::new(body).poll_frame(context),
        };
        if let Some(moves) = &out.moves {
            moves.note(polled.is_ready());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Path(answer) => answer.is_end_stream(),
            Inner::Plane(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Path(answer) => answer.size_hint(),
            Inner::Plane(body) => body.size_hint(),
        }
    }
}

/// Who is at the other end of a connection: a caller's machine, or a proxy.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

/// What answers requests on one listener.
#[derive(Clone, Debug)]
pub struct Desk {
    pub gateway: Arc<Gateway>,
    /// Everything but the hot path.
    pub plane: axum::Router,
    /// Whether this listener serves the hot path at all.
    pub is_public: bool,
}

/// Chat, with the platform beside the model and the answer in the envelope.
const ENVELOPED_CHAT: &str = "/api/v1/oauth/chat/completions";

/// Every path that is not the control plane's.
#[cfg(test)]
pub const HOT: [&str; 5] =
    ["/v1/chat/completions", "/chat/completions", "/v1/embeddings", "/embeddings", ENVELOPED_CHAT];

/// Whether a page of any origin may ask here: an app in a browser, with a token that somebody granted it (`chat`). Nothing here is
/// answered for a cookie, so nobody's browser can be made to ask for them.
fn is_for_pages(path: &str) -> bool {
    let path = path.strip_prefix("/v1").unwrap_or(path);
    matches!(path, "/chat/completions" | "/embeddings" | "/models") || path.starts_with("/models/")
}

enum Door {
    Path(Task),
    /// [`ENVELOPED_CHAT`].
    Enveloped,
    WrongMethod,
    Plane,
}

fn door(method: &Method, path: &str) -> Door {
    let task = match path {
        // An SDK whose base URL lacks `/v1` posts without it.
        "/v1/chat/completions" | "/chat/completions" => Task::Chat,
        "/v1/embeddings" | "/embeddings" => Task::Embeddings,
        ENVELOPED_CHAT if method == Method::POST => return Door::Enveloped,
        ENVELOPED_CHAT => return Door::WrongMethod,
        _ => return Door::Plane,
    };
    if method == Method::POST { Door::Path(task) } else { Door::WrongMethod }
}

/// Serves one request; never fails, whatever is asked or breaks.
pub async fn serve(
    desk: Arc<Desk>,
    phase: Arc<Phase>,
    peer: Option<IpAddr>,
    mut request: Request<Incoming>,
) -> Result<Response<Out>, Infallible> {
    let busy = phase.begin();
    if request.headers().contains_key(UPGRADE) {
        // Whoever goes on with the connection as something else says for how long.
        request.extensions_mut().insert(Arc::clone(&phase));
    }
    let arrived = desk.gateway.clock.now();
    let shape = Shape::of(request.uri().path());
    let is_of_page =
        request.headers().contains_key(ORIGIN) && desk.is_public && is_for_pages(request.uri().path());
    let id = RequestId::from_caller(request.headers().get("x-request-id").and_then(|id| id.to_str().ok()));
    let is_http1 = request.version() <= Version::HTTP_11;
    let work = AssertUnwindSafe(dispatch(&desk, peer, request, &id, arrived)).catch_unwind();
    let served = work.await.unwrap_or_else(|_| {
        desk.gateway.metrics.panics.inc();
        Err((Fault::gateway(Kind::Internal, "The gateway failed on this request."), None))
    });
    let (status, mut headers, inner) = match served {
        Ok(made) => made,
        Err((fault, unread)) => {
            note(&fault, Some(&id), &desk.gateway.metrics);
            refuse(&fault, unread.filter(|_| is_http1), shape)
        }
    };
    if let Ok(id) = HeaderValue::from_str(id.as_str()) {
        headers.insert("x-request-id", id);
    }
    if is_of_page {
        allow_any(&mut headers);
    }
    let mut response = Response::new(Out { inner, moves: Moves::of_this_stream(), _busy: busy });
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}

type Made = (http::StatusCode, HeaderMap, Inner);

async fn dispatch(
    desk: &Desk,
    peer: Option<IpAddr>,
    request: Request<Incoming>,
    id: &RequestId,
    arrived: Moment,
) -> Result<Made, (Fault, Option<Incoming>)> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    if path.len() > MAX_PATH {
        let fault = Fault::client(Kind::UriTooLong, "The request's path is too long.");
        return Err((fault, Some(request.into_body())));
    }
    if let Err(fault) = host::check(&request) {
        return Err((fault, Some(request.into_body())));
    }
    if !desk.is_public {
        return ask_plane(desk, peer, request).await;
    }
    if request.method() == Method::OPTIONS
        && is_for_pages(request.uri().path())
        && request.body().is_end_stream()
    {
        let nothing = Inner::Path(Answer::Whole(Bytes::new()));
        return Ok((http::StatusCode::NO_CONTENT, permission(), nothing));
    }
    match door(request.method(), request.uri().path()) {
        Door::Plane => ask_plane(desk, peer, request).await,
        Door::WrongMethod => {
            let fault = Fault::client(Kind::MethodNotAllowed, "This endpoint takes POST requests only.");
            let fault = fault.headers([(ALLOW, HeaderValue::from_static("POST"))]);
            Err((fault, Some(request.into_body())))
        }
        door @ (Door::Path(_) | Door::Enveloped) => {
            let (http::request::Parts { headers, .. }, mut incoming) = request.into_parts();
            let names_platform = matches!(door, Door::Enveloped);
            let task = if let Door::Path(task) = door { task } else { Task::Chat };
            let arrival = Arrival { id, headers, at: arrived, names_platform };
            // In a block: the work ends, and lets the body go, before a refusal takes it up.
            let answered = {
                let work = pin!(desk.gateway.answer(task, arrival, &mut incoming));
                desk.gateway.drain.unless_over(work).await
            };
            match answered {
                Ok(reply) => {
                    let body =
                        if names_platform { enveloped(reply.body, &reply.headers) } else { reply.body };
                    Ok((http::StatusCode::OK, reply.headers, Inner::Path(body)))
                }
                Err(fault) => Err((fault, Some(incoming))),
            }
        }
    }
}

/// A whole answer in the envelope; a stream as it is.
fn enveloped(answer: Answer, headers: &HeaderMap) -> Answer {
    let is_json = headers.get(CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    match answer {
        Answer::Whole(body) if is_json => Answer::Whole(Bytes::from(envelope::wrapped(&body))),
        other => other,
    }
}

/// Largest body that the control plane takes, in bytes.
const MAX_PLANE_BODY: usize = 256 * 1024;

/// The body is read first, whoever answers: what a handler left unread would close the connection behind an answer that
/// does not say so, or stay open for as long as the caller pleases.
async fn ask_plane(
    desk: &Desk,
    peer: Option<IpAddr>,
    request: Request<Incoming>,
) -> Result<Made, (Fault, Option<Incoming>)> {
    let (mut head, mut incoming) = request.into_parts();
    // The one way to tell axum's handlers.
    if let Some(peer) = peer {
        head.extensions.insert(Peer(peer));
    }
    let mut body = Bytes::new();
    if !incoming.is_end_stream() {
        let world = desk.gateway.world();
        let sizes = Sizes { body: MAX_PLANE_BODY, ..world.sizes };
        let read = {
            let work = pin!(body::read(&desk.gateway, &mut incoming, &sizes, &world.timeouts));
            desk.gateway.drain.unless_over(work).await
        };
        match read {
            Ok((bytes, _held)) => body = bytes,
            Err(fault) => return Err((fault, Some(incoming))),
        }
    }
    let mut plane = desk.plane.clone();
    let response = match plane.call(Request::from_parts(head, axum::body::Body::from(body))).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    let (head, body) = response.into_parts();
    Ok((head.status, head.headers, Inner::Plane(body)))
}

/// The answer to a fault. Where the request's body has not been read, the connection reads on for a while and closes; at
/// once where the caller has stopped sending anyway.
fn refuse(fault: &Fault, unread: Option<Incoming>, shape: Shape) -> Made {
    let refusal = shape.refusal(fault);
    let mut headers = refusal.headers;
    let unread = unread.filter(|incoming| !incoming.is_end_stream());
    if unread.is_some() {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let answer = match unread.filter(|_| fault.kind() != Kind::SlowClient) {
        Some(incoming) => Answer::early(refusal.body, incoming),
        None => {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(refusal.body.len()));
            Answer::Whole(refusal.body)
        }
    };
    (refusal.status, headers, Inner::Path(answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hot_paths_are_all_there_are() {
        for path in HOT {
            assert!(matches!(door(&Method::POST, path), Door::Path(_) | Door::Enveloped), "{path}");
            assert!(matches!(door(&Method::GET, path), Door::WrongMethod), "{path}");
        }
        assert!(matches!(door(&Method::POST, "/v1/models"), Door::Plane));
    }
}
