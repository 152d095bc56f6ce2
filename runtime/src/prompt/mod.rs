//! What people have at the prompt besides a node: `ping`, `status`, `cli`, `demo`, and what a shell and a manual want
//! to know of them.

pub(crate) mod cli;
pub(crate) mod demo;
mod interrupt;
pub(crate) mod pages;
pub(crate) mod paint;
pub(crate) mod ping;
pub(crate) mod status;

use std::io::{self, Write};

/// Prints. Nobody left to read it, as in `| head -1`, is no failure.
fn print(text: impl AsRef<[u8]>) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_ref()).and_then(|()| stdout.flush());
}

/// A number with commas between its thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_told_apart() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }
}
