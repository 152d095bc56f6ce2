//! What is asked by HTTP: one page, of a server that answers shortly.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use super::stream::Stream;
use crate::tls::client::ClientTls;

/// Longest answer that is taken.
const PAGE_BYTES_MAX: usize = 64 << 10;
/// Most fields of one.
const FIELDS_MAX: usize = 64;

/// Asks `server` for `path`, by TLS if `tls` is given; answers the status and the body, of which at most 64 KiB are
/// taken.
pub(crate) fn get(server: &str, tls: Option<&ClientTls>, path: &str, within: Duration) -> io::Result<(u16, Vec<u8>)> {
    let begin = Instant::now();
    let mut stream = Stream::connect(server, tls, within)?;
    stream.set_write_timeout(within)?;
    // Named by its address: a node turns those away who ask for a host that it does not know to be itself.
    let host = stream.peer_addr()?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes())?;
    stream.flush()?;
    let mut page = Vec::new();
    let mut buffer = [0; 4_096];
    while page.len() < PAGE_BYTES_MAX {
        let left = within.saturating_sub(begin.elapsed());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(left)?;
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                page.extend_from_slice(&buffer[..count]);
                if let Some((status, body, true)) = answer(&page) {
                    return Ok((status, body));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(io::ErrorKind::TimedOut.into()),
            Err(error) => return Err(error),
        }
    }
    let wrong = || io::Error::new(io::ErrorKind::InvalidData, "it does not speak HTTP");
    answer(&page).map(|(status, body, _)| (status, body)).ok_or_else(wrong)
}

/// The status, what has come of the body, and whether that is all that was announced.
fn answer(page: &[u8]) -> Option<(u16, Vec<u8>, bool)> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    let Ok(httparse::Status::Complete(head)) = response.parse(page) else { return None };
    let body = page[head..].to_vec();
    let length = response.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|field| std::str::from_utf8(field.value).ok()?.parse::<usize>().ok());
    let is_whole = length.is_some_and(|length| body.len() >= length);
    Some((response.code?, body, is_whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_a_status_and_a_body() {
        assert_eq!(answer(b"HTTP/1.1 503 No\r\nA: b\r\n\r\nbody"), Some((503, b"body".to_vec(), false)));
        for (length, is_whole) in [(3, true), (4, true), (5, false)] {
            let page = format!("HTTP/1.1 200 OK\r\ncontent-LENGTH: {length}\r\n\r\nbody");
            assert_eq!(answer(page.as_bytes()), Some((200, b"body".to_vec(), is_whole)));
        }
        for page in [&b""[..], b"HTTP/1.1 200 OK\r\n", b"+PONG\r\n", b"-ERR\r\n\r\n"] {
            assert_eq!(answer(page), None, "{}", page.escape_ascii());
        }
    }
}
