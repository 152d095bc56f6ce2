//! A body that comes in chunks (RFC 9112, section 7.1).

use memchr::memchr;

use super::response::Fault;

/// Longest line that tells the size of a chunk, with extensions that nobody asked for.
const SIZE_LINE_BYTES_MAX: usize = 256;

/// What may follow the last chunk, all of it together; nothing of it is looked at.
const TRAILER_BYTES_MAX: usize = 4 << 10;

/// A body that comes in chunks, as far as it has come.
#[derive(Debug, Default)]
pub(super) struct Chunked {
    pub(super) body: Vec<u8>,
    place: Place,
}

#[derive(Clone, Copy, Debug, Default)]
enum Place {
    #[default]
    Size,
    Data {
        left: u64,
    },
    DataEnd,
    Trailer {
        bytes: usize,
    },
    End,
}

impl Chunked {
    /// Takes what is next in `bytes`; how many of them that were. 0: more is needed.
    pub(super) fn take(&mut self, bytes: &[u8], bytes_max: usize) -> Result<usize, Fault> {
        match self.place {
            Place::Size => {
                let Some((line, used)) = line(bytes, SIZE_LINE_BYTES_MAX)? else { return Ok(0) };
                let size = size(line).ok_or_else(|| Fault::bad("a chunk has no size"))?;
                if size > (bytes_max - self.body.len()) as u64 {
                    return Err(Fault::too_large(bytes_max));
                }
                self.place = if size == 0 { Place::Trailer { bytes: 0 } } else { Place::Data { left: size } };
                Ok(used)
            }
            Place::Data { left } => {
                let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                self.body.extend_from_slice(&bytes[..here]);
                let left = left - here as u64;
                self.place = if left == 0 { Place::DataEnd } else { Place::Data { left } };
                Ok(here)
            }
            Place::DataEnd => match bytes {
                [b'\r', b'\n', ..] => {
                    self.place = Place::Size;
                    Ok(2)
                }
                [] | [b'\r'] => Ok(0),
                _ => Err(Fault::bad("a chunk is longer than it says")),
            },
            Place::Trailer { bytes: before } => {
                let Some((line, used)) = line(bytes, TRAILER_BYTES_MAX - before)? else { return Ok(0) };
                self.place = if line.is_empty() { Place::End } else { Place::Trailer { bytes: before + used } };
                Ok(used)
            }
            Place::End => Ok(0),
        }
    }

    pub(super) fn is_whole(&self) -> bool {
        matches!(self.place, Place::End)
    }
}

/// The first line of `bytes` without its end, and how long it is with it; none if it has not ended yet.
fn line(bytes: &[u8], bytes_max: usize) -> Result<Option<(&[u8], usize)>, Fault> {
    let window = &bytes[..bytes.len().min(bytes_max)];
    match memchr(b'\n', window) {
        // A CR anywhere else is an end of a line to some, who would read another body.
        Some(at) if at > 0 && memchr(b'\r', window) == Some(at - 1) => Ok(Some((&window[..at - 1], at + 1))),
        Some(_) => Err(Fault::bad("a line between chunks does not end with CR LF")),
        None if window.len() == bytes_max => Err(Fault::bad("a line between chunks is too long")),
        None => Ok(None),
    }
}

fn size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|byte| matches!(byte, b';' | b' ' | b'\t')).next()?;
    let behind = line[digits.len()..].trim_ascii_start();
    if !(behind.is_empty() || behind.starts_with(b";")) {
        return None;
    }
    let is_short = (1..=16).contains(&digits.len());
    let text = std::str::from_utf8(digits).ok().filter(|_| is_short && digits.iter().all(u8::is_ascii_hexdigit))?;
    u64::from_str_radix(text, 16).ok()
}
