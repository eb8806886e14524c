//! As much of Kafka's protocol as xtask needs: one request over a connection of its own, and its fields.
//!
//! Kafka's own tools take two seconds to start, each, and xtask wants no Kafka client.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::error::{Context, Error, Result};

const TIMEOUT: Duration = Duration::from_secs(2);
pub(crate) const CORRELATION_ID: i32 = 7;
/// Far more than any answer of a test cluster: something else is listening on the port.
const LONGEST_ANSWER: usize = 64 << 20;

/// A request, from its header on.
#[derive(Debug)]
pub(crate) struct Request {
    bytes: Vec<u8>,
    timeout: Duration,
}

impl Request {
    /// One of the older versions, with header version 1.
    pub(crate) fn new(api: i16, version: i16) -> Self {
        let mut request = Self { bytes: Vec::new(), timeout: TIMEOUT };
        request.int16(api).int16(version).int32(CORRELATION_ID).string("xtask");
        request
    }

    /// One of the newer, "flexible" versions: header version 2, compact fields, and tags after each structure.
    pub(crate) fn flexible(api: i16, version: i16) -> Self {
        let mut request = Self::new(api, version);
        request.no_tags();
        request
    }

    /// For requests that the broker answers only once it is done.
    pub(crate) fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    pub(crate) fn int8(&mut self, number: i8) -> &mut Self {
        self.raw(&number.to_be_bytes())
    }

    pub(crate) fn int16(&mut self, number: i16) -> &mut Self {
        self.raw(&number.to_be_bytes())
    }

    pub(crate) fn int32(&mut self, number: i32) -> &mut Self {
        self.raw(&number.to_be_bytes())
    }

    pub(crate) fn string(&mut self, text: &str) -> &mut Self {
        // What xtask sends is short; Kafka refuses what a cut left over.
        let length = i16::try_from(text.len()).unwrap_or(i16::MAX);
        self.int16(length).raw(text.as_bytes())
    }

    /// A length or a count in a flexible version: one more, as zero stands for null.
    pub(crate) fn compact_length(&mut self, length: usize) -> &mut Self {
        let mut rest = length + 1;
        while rest >= 0x80 {
            self.bytes.push(low_bits(rest) | 0x80);
            rest >>= 7;
        }
        self.bytes.push(low_bits(rest));
        self
    }

    pub(crate) fn compact_string(&mut self, text: &str) -> &mut Self {
        self.compact_length(text.len()).raw(text.as_bytes())
    }

    pub(crate) fn no_tags(&mut self) -> &mut Self {
        self.int8(0)
    }

    fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Sends it to the node on this port of loopback, and hands the answer over, after its correlation id.
    pub(crate) fn send<T>(&self, port: u16, read: impl FnOnce(&mut Fields<'_>) -> Result<T>) -> Result<T> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let answer = self.exchange(&address).context(|| format!("no answer from {address}"))?;
        parse(&answer, read).context(|| format!("bad answer from {address}"))
    }

    fn exchange(&self, address: &SocketAddr) -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect_timeout(address, self.timeout)?;
        stream.set_read_timeout(Some(self.timeout))?;
        stream.set_write_timeout(Some(self.timeout))?;
        let length = i32::try_from(self.bytes.len()).map_err(std::io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes()[..], &self.bytes].concat())?;
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let length = usize::try_from(i32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > LONGEST_ANSWER {
            return Err(std::io::Error::other("the answer is not Kafka's"));
        }
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    }
}

fn low_bits(number: usize) -> u8 {
    u8::try_from(number & 0x7f).unwrap_or(0)
}

pub(crate) fn parse<T>(answer: &[u8], read: impl FnOnce(&mut Fields<'_>) -> Result<T>) -> Result<T> {
    let mut fields = Fields(answer);
    if fields.int32()? != CORRELATION_ID {
        return Err(Error::new("wrong correlation id"));
    }
    read(&mut fields)
}

/// What is left of an answer.
#[derive(Debug)]
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn skip(&mut self, length: usize) -> Result<()> {
        self.take(length).map(|_| ())
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or_else(|| Error::new("it ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().context(|| "wrong length")
    }

    pub(crate) fn int16(&mut self) -> Result<i16> {
        Ok(i16::from_be_bytes(self.fixed()?))
    }

    pub(crate) fn int32(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.fixed()?))
    }

    /// A string, or nothing for null.
    pub(crate) fn string(&mut self) -> Result<String> {
        let length = usize::try_from(self.int16()?).unwrap_or(0);
        self.text(length)
    }

    pub(crate) fn array<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        (0..self.int32()?).map(|_| item(self)).collect()
    }

    /// A string of a flexible version, or nothing for null.
    pub(crate) fn compact_string(&mut self) -> Result<String> {
        let length = self.compact_length()?;
        self.text(length)
    }

    pub(crate) fn compact_array<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        (0..self.compact_length()?).map(|_| item(self)).collect()
    }

    /// Fails if there are any: xtask asks for versions that have none.
    pub(crate) fn no_tags(&mut self) -> Result<()> {
        match self.varint()? {
            0 => Ok(()),
            _ => Err(Error::new("it has tags")),
        }
    }

    fn compact_length(&mut self) -> Result<usize> {
        Ok(self.varint()?.saturating_sub(1))
    }

    fn varint(&mut self) -> Result<usize> {
        let mut number = 0;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.fixed()?;
            number |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Error::new("it has a number that is too long"))
    }

    fn text(&mut self, length: usize) -> Result<String> {
        Ok(String::from_utf8_lossy(self.take(length)?).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_read_back() {
        let long = "x".repeat(300);
        let mut request = Request::flexible(45, 0);
        request.int8(-1).int32(-5).compact_string("topic").compact_string(&long).no_tags();
        request.compact_length(2).int32(3).int32(4);
        let mut fields = Fields(&request.bytes);
        assert_eq!((fields.int16().unwrap(), fields.int16().unwrap()), (45, 0));
        assert_eq!((fields.int32().unwrap(), fields.string().unwrap().as_str()), (CORRELATION_ID, "xtask"));
        fields.no_tags().unwrap();
        assert_eq!((fields.take(1).unwrap(), fields.int32().unwrap()), (&[255][..], -5));
        assert_eq!(fields.compact_string().unwrap(), "topic");
        assert_eq!(fields.compact_string().unwrap(), long);
        fields.no_tags().unwrap();
        assert_eq!(fields.compact_array(Fields::int32).unwrap(), [3, 4]);
        assert!(fields.0.is_empty());
        assert!(fields.int16().is_err() && fields.varint().is_err());
    }

    #[test]
    fn an_endless_number_is_an_error() {
        assert!(Fields(&[0xff; 20]).varint().is_err());
        assert_eq!(Fields(&[0]).compact_string().unwrap(), "", "null");
    }

    #[test]
    fn another_ones_answer_is_not_read() {
        assert!(parse(&[0, 0, 0, 8], |_| Ok(())).is_err());
    }
}
