//! Telnet's own bytes (RFC 854), told apart from what the user typed.
//!
//! Options are refused, each once, so that two sides that both refuse cannot loop. The timing mark is refused every
//! time: after Ctrl-C a real telnet hides all output until that answer comes.

/// The byte that starts a telnet command; doubled, it is data.
pub(crate) const IAC: u8 = 0xff;

const SUBNEGOTIATION_END: u8 = 0xf0;
const INTERRUPT_PROCESS: u8 = 0xf4;
const ARE_YOU_THERE: u8 = 0xf6;
const SUBNEGOTIATION: u8 = 0xfa;
const WILL: u8 = 0xfb;
const WONT: u8 = 0xfc;
const DO: u8 = 0xfd;
const DONT: u8 = 0xfe;

/// The least byte that is a command after [`IAC`] (end of file, RFC 1184).
const LEAST_COMMAND: u8 = 0xec;

const TIMING_MARK: u8 = 6;

/// A subnegotiation longer than this is taken as ended. No option that a client offers unasked needs more, and one
/// whose end never comes must not swallow everything that is typed.
const SUBNEGOTIATION_BYTES_MAX: u16 = 512;

/// The telnet side of one connection.
#[derive(Debug, Default)]
pub(crate) struct Telnet {
    state: State,
    /// Nothing before the first of them: most clients never speak of options.
    refused: Option<Box<Refused>>,
}

#[derive(Debug, Default)]
struct Refused {
    /// Options that the client asked for by DO.
    wont: OptionSet,
    /// Options that the client offered by WILL.
    dont: OptionSet,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Data,
    /// After IAC.
    Command,
    /// After IAC and WILL, WONT, DO or DONT.
    Option { verb: u8 },
    /// `bytes` of it were seen.
    Subnegotiation { bytes: u16, after_iac: bool },
}

/// What a byte inside a telnet command came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It was telnet's own.
    Nothing,
    /// A doubled IAC: one data byte of that value.
    DataIac,
    /// The pending line is cancelled.
    Interrupt,
    /// It was no telnet command: the IAC before it means nothing and this byte is data. So a stray IAC never swallows
    /// the end of a line.
    NotTelnet,
}

impl Telnet {
    /// Whether the next byte belongs to [`take`](Self::take).
    pub(crate) fn is_inside(&self) -> bool {
        self.state != State::Data
    }

    /// An IAC was met among data.
    pub(crate) fn begin(&mut self) {
        debug_assert!(!self.is_inside(), "an IAC inside a command is taken as part of it");
        self.state = State::Command;
    }

    /// Takes the next byte of a command; appends the answer to a complete one to `out`.
    pub(crate) fn take(&mut self, byte: u8, out: &mut Vec<u8>) -> Taken {
        debug_assert!(self.is_inside(), "data is not telnet's");
        let state = std::mem::take(&mut self.state);
        match state {
            State::Command => return self.take_command(byte, out),
            State::Option { verb } => self.answer(verb, byte, out),
            State::Subnegotiation { bytes, after_iac } => {
                let ended = after_iac && byte == SUBNEGOTIATION_END;
                let bytes = bytes + 1;
                if !ended && bytes < SUBNEGOTIATION_BYTES_MAX {
                    self.state = State::Subnegotiation { bytes, after_iac: !after_iac && byte == IAC };
                }
            }
            State::Data => {}
        }
        Taken::Nothing
    }

    fn take_command(&mut self, byte: u8, out: &mut Vec<u8>) -> Taken {
        match byte {
            IAC => return Taken::DataIac,
            INTERRUPT_PROCESS => return Taken::Interrupt,
            ARE_YOU_THERE => out.extend_from_slice(b"[yes]\n"),
            WILL | WONT | DO | DONT => self.state = State::Option { verb: byte },
            SUBNEGOTIATION => self.state = State::Subnegotiation { bytes: 0, after_iac: false },
            LEAST_COMMAND.. => {}
            _ => return Taken::NotTelnet,
        }
        Taken::Nothing
    }

    fn answer(&mut self, verb: u8, option: u8, out: &mut Vec<u8>) {
        let Refused { wont, dont } = &mut **self.refused.get_or_insert_default();
        match verb {
            DO if wont.insert(option) || option == TIMING_MARK => out.extend_from_slice(&[IAC, WONT, option]),
            WILL if dont.insert(option) => out.extend_from_slice(&[IAC, DONT, option]),
            _ => {}
        }
    }
}

#[derive(Debug, Default)]
struct OptionSet([u64; 4]);

impl OptionSet {
    /// Whether it was not in there before.
    fn insert(&mut self, option: u8) -> bool {
        let word = &mut self.0[usize::from(option / 64)];
        let bit = 1 << (option % 64);
        let new = *word & bit == 0;
        *word |= bit;
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is data, with `^` for an interrupt, and what is answered.
    fn check(input: &[u8], data: &[u8], answers: &[u8]) {
        let mut telnet = Telnet::default();
        let (mut data_seen, mut out) = (Vec::new(), Vec::new());
        for byte in input {
            if telnet.is_inside() {
                match telnet.take(*byte, &mut out) {
                    Taken::Nothing => continue,
                    Taken::DataIac => data_seen.push(IAC),
                    Taken::Interrupt => data_seen.push(b'^'),
                    Taken::NotTelnet => data_seen.push(*byte),
                }
            } else if *byte == IAC {
                telnet.begin();
            } else {
                data_seen.push(*byte);
            }
        }
        assert_eq!((data_seen.as_slice(), out.as_slice()), (data, answers), "{}", input.escape_ascii());
    }

    #[test]
    fn options_are_refused_once_and_the_timing_mark_every_time() {
        check(b"a\xff\xfd\x01b\xff\xfd\x01c", b"abc", b"\xff\xfc\x01");
        check(b"\xff\xfb\x1f\xff\xfb\x1f\xff\xfd\x1f", b"", b"\xff\xfe\x1f\xff\xfc\x1f");
        check(b"\xff\xfd\x06\xff\xfd\x06", b"", b"\xff\xfc\x06\xff\xfc\x06");
        check(b"\xff\xfb\xff\xff\xfd\xff", b"", b"\xff\xfe\xff\xff\xfc\xff");
        check(b"\xff\xfc\x01\xff\xfe\x01x", b"x", b"");
    }

    #[test]
    fn commands_are_never_data() {
        check(b"a\xff\xffb", b"a\xffb", b"");
        check(b"a\xff\xf4b\xff\xfd\x06", b"a^b", b"\xff\xfc\x06");
        check(b"\xff\xf6\xff\xf6", b"", b"[yes]\n[yes]\n");
        check(b"\xff\xf1a\xff\xf2b\xff\xefc\xff\xf0d\xff\xecx", b"abcdx", b"");
        check(b"\xff\n\xffa\xff\x04", b"\na\x04", b"");
    }

    #[test]
    fn subnegotiations_are_skipped_up_to_a_limit() {
        check(b"a\xff\xfa\x18\x00xterm\xff\xf0b", b"ab", b"");
        check(b"a\xff\xfa\xff\xff\xf0\xff\xf1\xff\xf0b", b"ab", b"");
        let endless = [b"\xff\xfa".as_slice(), &[b'x'; 512], b"PING"].concat();
        check(&endless, b"PING", b"");
        let longest = [b"\xff\xfa".as_slice(), &[b'x'; 510], b"\xff\xf0PING"].concat();
        check(&longest, b"PING", b"");
    }
}
