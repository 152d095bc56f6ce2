//! Any bytes as a record's body, and as a frame.

use kv_core::{FrameError, decode, encode, next_frame};

const BODY_BYTES_MAX: usize = 1 << 12;

/// What can be decoded comes back from its own encoding; no other bytes are believed.
pub fn check(input: &[u8]) {
    if let Ok(framed) = decode(input) {
        let mut bytes = Vec::new();
        encode(&framed, &mut bytes);
        let body = next_frame(&bytes, bytes.len()).expect("a frame").expect("a whole one");
        assert_eq!(decode(body), Ok(framed));
    }
    match next_frame(input, BODY_BYTES_MAX) {
        Ok(Some(body)) => {
            assert!(body.len() <= BODY_BYTES_MAX && body.len() + 8 <= input.len());
            let _ = decode(body);
        }
        Ok(None) => assert!(input.len() < BODY_BYTES_MAX + 8, "a frame that fits is whole or wrong"),
        Err(FrameError::TooLong | FrameError::Checksum | FrameError::Malformed) => {}
    }
}
