//! Asks for a page over HTTP.

use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::header::{CONNECTION, HOST};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// How long an answer may take.
const TIME: Duration = Duration::from_secs(5);
/// Largest page: far more than ten thousand partitions make.
const SIZE: usize = 64 * 1024 * 1024;

/// A page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    authority: String,
    path: String,
}

impl Target {
    /// From `HOST:PORT`, or a URL; without a path it is `/metrics`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let url = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let wrong = || format!("{text} is no HOST:PORT and no http://HOST:PORT/PATH");
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        match uri.scheme_str() {
            Some("http") => {}
            Some(other) => return Err(format!("{text}: only http is spoken here, not {other}")),
            None => return Err(wrong()),
        }
        let authority = uri.authority().filter(|authority| !authority.host().is_empty()).ok_or_else(wrong)?;
        if authority.as_str().contains('@') {
            return Err("no user and password are sent; leave them out of the address".to_owned());
        }
        let authority = match authority.port_u16() {
            Some(_) => authority.to_string(),
            None if uri.scheme_str().is_some() && text.contains("://") => format!("{authority}:80"),
            None => return Err(wrong()),
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let path = if path == "/" { "/metrics" } else { path };
        Ok(Self { authority, path: path.to_owned() })
    }

    /// How it is shown.
    pub(super) fn name(&self) -> String {
        let path = if self.path == "/metrics" { "" } else { &self.path };
        format!("http://{}{path}", self.authority)
    }

    /// The page.
    ///
    /// # Errors
    /// Why it can't be had.
    pub(super) async fn get(&self) -> Result<String, String> {
        let answer = tokio::time::timeout(TIME, self.ask()).await;
        answer.unwrap_or_else(|_| Err(format!("no answer within {} s", TIME.as_secs())))
    }

    async fn ask(&self) -> Result<String, String> {
        let stream = TcpStream::connect(&self.authority).await.map_err(|error| error.to_string())?;
        let broken = |error: &dyn std::fmt::Display| format!("no HTTP there: {error}");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| broken(&e))?;
        let request = Request::get(&self.path)
            .header(HOST, &self.authority)
            .header(CONNECTION, "close")
            .body(Empty::<Bytes>::new())
            .map_err(|e| broken(&e))?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(|e| broken(&e))?;
            let status = response.status();
            if status != StatusCode::OK {
                return Err(format!("{} is answered with {status}", self.path));
            }
            let body = Limited::new(response.into_body(), SIZE).collect().await.map_err(|e| broken(&e))?;
            String::from_utf8(body.to_bytes().into()).map_err(|e| broken(&e))
        };
        // Without the one the other does not get on; it ends with the answer.
        let (answer, _) = tokio::join!(answer, connection);
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_understood_and_nonsense_is_not() {
        for (text, name) in [
            ("localhost:9464", "http://localhost:9464"),
            ("http://localhost:9464/", "http://localhost:9464"),
            ("http://localhost:9464/metrics", "http://localhost:9464"),
            ("http://[::1]:9464/x/metrics?y=1", "http://[::1]:9464/x/metrics?y=1"),
            ("http://localhost", "http://localhost:80"),
        ] {
            assert_eq!(Target::parse(text).map(|target| target.name()).as_deref(), Ok(name), "{text}");
        }
        for bad in [
            "",
            "localhost",
            ":9464",
            "https://x:1",
            "ftp://x:1",
            "http://",
            "http://a:s3cr3t@x:1",
            "a b:1",
            "x:99999",
        ] {
            let error = Target::parse(bad).unwrap_err();
            assert!(!error.contains("s3cr3t"), "{error}");
        }
    }
}
