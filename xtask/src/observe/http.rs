//! Asking an HTTP server on this machine something small.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::error::{Context, Error, Result};

/// Far more than an answer takes on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(20);

/// The body of the answer, which has to be 200. In HTTP 1.0, where it ends with the connection.
pub(super) fn get(address: &str, path: &str) -> Result<String> {
    let what = || format!("http://{address}{}", path.split('?').next().unwrap_or_default());
    let ask = || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().context(|| format!("cannot get {}", what()))?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if head.split(' ').nth(1) == Some("200") {
        return Ok(body.to_owned());
    }
    Err(Error::new(format!("{} says {}: {body}", what(), head.lines().next().unwrap_or_default())))
}

/// As a value in a query.
pub(super) fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    fn answering(answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = [0; 512];
            assert!(stream.read(&mut asked).unwrap() > 0);
            stream.write_all(answer.as_bytes()).unwrap();
        });
        address
    }

    #[test]
    fn the_body_is_what_follows_the_head() {
        let address = answering("HTTP/1.0 200 OK\r\nA: b\r\n\r\nthis\r\n\r\nand that");
        assert_eq!(get(&address, "/x?q=1").unwrap(), "this\r\n\r\nand that");
    }

    #[test]
    fn what_is_not_200_is_an_error_with_its_text() {
        let address = answering("HTTP/1.0 400 Bad Request\r\n\r\nno such function");
        let error = get(&address, "/api?query=x").unwrap_err().to_string();
        assert_eq!(error, format!("http://{address}/api says HTTP/1.0 400 Bad Request: no such function"));
    }

    #[test]
    fn what_means_something_in_a_query_is_encoded() {
        assert_eq!(encoded("a{b=\"c\"}+1"), "a%7Bb%3D%22c%22%7D%2B1");
    }
}
