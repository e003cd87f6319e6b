//! A provider of chat completions for load: every request is answered with the same events at a fixed pace, and
//! the stand-in takes as little CPU as it can, so that what is measured is its client.
//!
//! `bench-provider --listen 127.0.0.1:0 [--max-streams 100] [--events 19] [--delay-ms 300] [--tls] [--padded]`
//! prints `listening on <address>` once it does; with `--tls` the certificate, made for the run, before it.
#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The pieces of an answer: `events` texts, then the finish, the usage and `[DONE]` in one piece. Like OpenAI's, each
/// begins with an id that no other answer has, and each text ends with a padding of another length.
struct Script {
    /// What comes after the id.
    pieces: Vec<Bytes>,
    delay: Duration,
}

const BEFORE_ID: &str = "data: {\"id\":\"chatcmpl-";
const PADDING: &str = "aB3xK9mQ2vL7pR";
/// Fields of a response of OpenAI's, as its edge sends them; ids are made for each.
const FIELDS: [(&str, &str); 20] = [
    ("date", "Thu, 26 Nov 2026 12:34:56 GMT"),
    ("content-type", "text/event-stream; charset=utf-8"),
    ("access-control-expose-headers", "X-Request-ID"),
    ("openai-organization", "some-organization-x1y2z3"),
    ("openai-processing-ms", "183"),
    ("openai-project", "proj_AbCdEfGhIjKlMnOpQrStUvWx"),
    ("openai-version", "2020-10-01"),
    ("x-envoy-upstream-service-time", "207"),
    ("x-ratelimit-limit-requests", "30000"),
    ("x-ratelimit-limit-tokens", "150000000"),
    ("x-ratelimit-remaining-requests", "29999"),
    ("x-ratelimit-remaining-tokens", "149999985"),
    ("x-ratelimit-reset-requests", "2ms"),
    ("x-ratelimit-reset-tokens", "0s"),
    ("cf-cache-status", "DYNAMIC"),
    (
        "set-cookie",
        "__cf_bm=aB3xK9mQ2vL7pRaB3xK9mQ2vL7pRaB3xK9mQ2vL7pRaB3xK9mQ2vL7pR-1764160496-1.0.1.1; path=/; \
         expires=Thu, 26-Nov-26 13:04:56 GMT; domain=.api.openai.com; HttpOnly; Secure; SameSite=None",
    ),
    (
        "strict-transport-security",
        "max-age=31536000; includeSubDomains; preload",
    ),
    ("x-content-type-options", "nosniff"),
    ("server", "cloudflare"),
    ("alt-svc", "h3=\":443\"; ma=86400"),
];

impl Script {
    /// `padded`: as OpenAI does unless it is asked not to.
    fn new(events: usize, delay: Duration, padded: bool) -> Self {
        let chunk = |choices: &str, rest: &str| {
            format!(
                "\",\"object\":\"chat.completion.chunk\",\"created\":1764160496,\"model\":\"gpt-4o-2024-08-06\",\
                 \"service_tier\":\"default\",\"system_fingerprint\":\"fp_a1b2c3d4e5\",\"choices\":[{choices}]{rest}}}\n\n"
            )
        };
        let mut pieces: Vec<Bytes> = (0..events)
            .map(|i| {
                let delta = format!(
                    "{{\"index\":0,\"delta\":{{\"content\":\"word {i} \"}},\"logprobs\":null,\"finish_reason\":null}}"
                );
                let padding = &PADDING[..1 + i * 5 % PADDING.len()];
                let padding = format!(",\"obfuscation\":\"{padding}\"");
                Bytes::from(chunk(&delta, if padded { &padding } else { "" }))
            })
            .collect();
        let finish = "{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\"}";
        let usage = ",\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":19,\"total_tokens\":28}";
        pieces.push(Bytes::from(chunk(finish, usage) + "data: [DONE]\n\n"));
        Self { pieces, delay }
    }
}

/// One answer under way: the first piece at once, the last right after the one before it.
struct Answer {
    script: Arc<Script>,
    id: u64,
    next: usize,
    pause: Pin<Box<Sleep>>,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let last = self.script.pieces.len() - 1;
        if self.next > last {
            return Poll::Ready(None);
        }
        if self.next > 0 && self.next < last {
            ready!(self.pause.as_mut().poll(cx));
            let due = self.pause.deadline() + self.script.delay;
            self.pause.as_mut().reset(due);
        }
        let rest = &self.script.pieces[self.next];
        let mut piece = Vec::with_capacity(BEFORE_ID.len() + ID_DIGITS + rest.len());
        piece.extend_from_slice(BEFORE_ID.as_bytes());
        piece.extend_from_slice(id_text(self.id).as_bytes());
        piece.extend_from_slice(rest);
        self.next += 1;
        Poll::Ready(Some(Ok(Frame::data(piece.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.next >= self.script.pieces.len()
    }
}

const ID_DIGITS: usize = 29;

/// As long as OpenAI's.
fn id_text(id: u64) -> String {
    format!("{id:0>ID_DIGITS$x}")
}

impl Answer {
    fn new(script: Arc<Script>, id: u64) -> Self {
        let pause = Box::pin(sleep_until(Instant::now() + script.delay));
        Answer {
            script,
            id,
            next: 0,
            pause,
        }
    }
}

async fn answer(
    script: Arc<Script>,
    _request: Request<Incoming>,
) -> Result<Response<Answer>, Infallible> {
    static ANSWERS: AtomicU64 = AtomicU64::new(1);
    // Spread over the digits, as random ids are.
    let id = ANSWERS
        .fetch_add(1, Ordering::Relaxed)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut response = Response::new(Answer::new(script, id));
    let headers = response.headers_mut();
    for (name, value) in FIELDS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    for (name, value) in [
        ("x-request-id", format!("req_{id:032x}")),
        ("cf-ray", format!("{id:016x}-FRA")),
    ] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    Ok(response)
}

async fn serve<S>(stream: S, script: Arc<Script>, max_streams: u32)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http2()
        .max_concurrent_streams(max_streams)
        .timer(TokioTimer::new());
    builder.http1().timer(TokioTimer::new());
    let service = service_fn(move |request| answer(Arc::clone(&script), request));
    if let Err(error) = builder
        .serve_connection(TokioIo::new(stream), service)
        .await
    {
        eprintln!("connection: {error}");
    }
}

/// A self-signed certificate for `localhost` and `127.0.0.1`; its PEM goes to standard output for the client.
fn tls() -> Result<TlsAcceptor, Failure> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into(), "127.0.0.1".into()])?;
    print!("{}", made.cert.pem());
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())?;
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

struct Options {
    listen: String,
    max_streams: u32,
    events: usize,
    delay: Duration,
    tls: bool,
    padded: bool,
}

fn options() -> Result<Options, Failure> {
    let mut options = Options {
        listen: "127.0.0.1:0".into(),
        max_streams: 100,
        events: 19,
        delay: Duration::from_millis(300),
        tls: false,
        padded: false,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        let mut value = || {
            arguments
                .next()
                .ok_or_else(|| format!("{flag} needs a value"))
        };
        match flag.as_str() {
            "--listen" => options.listen = value()?,
            "--max-streams" => options.max_streams = value()?.parse()?,
            "--events" => options.events = value()?.parse()?,
            "--delay-ms" => options.delay = Duration::from_millis(value()?.parse()?),
            "--tls" => options.tls = true,
            "--padded" => options.padded = true,
            _ => return Err(format!("unknown flag {flag}").into()),
        }
    }
    Ok(options)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let options = options()?;
    let script = Arc::new(Script::new(options.events, options.delay, options.padded));
    let acceptor = if options.tls { Some(tls()?) } else { None };
    let listener = TcpListener::bind(&options.listen).await?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let script = Arc::clone(&script);
        let max_streams = options.max_streams;
        match acceptor.clone() {
            None => drop(tokio::spawn(serve(stream, script, max_streams))),
            Some(acceptor) => drop(tokio::spawn(async move {
                match acceptor.accept(stream).await {
                    Ok(stream) => serve(stream, script, max_streams).await,
                    Err(error) => eprintln!("TLS: {error}"),
                }
            })),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn every_gap_is_the_delay_and_the_end_comes_with_the_last_text() {
        let delay = Duration::from_millis(300);
        let mut answer = Answer::new(Arc::new(Script::new(4, delay, true)), 1);
        let began = Instant::now();
        let mut after_ms = Vec::new();
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut answer).poll_frame(cx)).await {
            assert!(frame.is_ok());
            after_ms.push(began.elapsed().as_millis());
        }
        // The timer's grain is a millisecond; it does not add up.
        let off: Vec<u128> = [0, 300, 600, 900, 900]
            .iter()
            .zip(&after_ms)
            .map(|(asked, after)| after - asked)
            .collect();
        assert_eq!(after_ms.len(), 5);
        assert!(off.iter().all(|off| *off <= 1), "{after_ms:?}");
    }
}
