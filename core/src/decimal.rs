//! Decimal numbers with a fraction, added exactly: `INCRBYFLOAT`.
//!
//! Redis adds long doubles, as its machine has them, and shows 17 places of the result. Here 3000 and 0.1 are 3000.1,
//! whatever the machine; where a long double holds a sum to 17 places, as it does below 64, the text is the same.

/// Longest text of a number, as in Redis.
const TEXT_BYTES_MAX: usize = 5 << 10;

/// Places that are shown behind the point.
const SHOWN_PLACES: usize = 17;

/// Numbers reach up to 10 to the power of this, and down to that of its negative: about what a long double does.
const EXPONENT_MAX: i64 = 4_932;

/// What a text says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decimal {
    Finite(Finite),
    /// A word for it.
    Infinite,
}

/// A number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Finite {
    is_negative: bool,
    /// The least first; of them so many stand behind the point.
    digits: Vec<u8>,
    places: usize,
}

impl Decimal {
    /// The number that `text` is: digits, with a point and an exponent if need be. None if it is none, or further from
    /// zero, or nearer to it, than what is counted with.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        if text.len() >= TEXT_BYTES_MAX {
            return None;
        }
        let (is_negative, rest) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            _ => (false, text),
        };
        if rest.eq_ignore_ascii_case(b"inf") || rest.eq_ignore_ascii_case(b"infinity") {
            return Some(Self::Infinite);
        }
        let (mantissa, exponent) = match rest.iter().position(|byte| byte.eq_ignore_ascii_case(&b'e')) {
            Some(at) => (&rest[..at], parse_exponent(&rest[at + 1..])?),
            None => (rest, 0),
        };
        let point = mantissa.iter().position(|byte| *byte == b'.');
        let is_digit = |(at, byte): (usize, &u8)| byte.is_ascii_digit() || Some(at) == point;
        if mantissa.is_empty() || mantissa == b"." || !mantissa.iter().enumerate().all(is_digit) {
            return None;
        }
        let mut digits: Vec<u8> = mantissa.iter().rev().filter(|byte| **byte != b'.').map(|byte| byte - b'0').collect();
        let behind = point.map_or(0, |point| mantissa.len() - point - 1) as i64;
        let Some(first) = digits.iter().rposition(|digit| *digit != 0) else {
            return Some(Self::Finite(Finite { is_negative, digits: Vec::new(), places: 0 }));
        };
        digits.truncate(first + 1);
        // The first digit that is not 0 stands for itself times 10 to the power of this.
        let magnitude = first as i64 - behind + exponent;
        if magnitude.abs() > EXPONENT_MAX {
            return None;
        }
        let places = behind - exponent;
        if places < 0 {
            let zeros = usize::try_from(-places).ok()?;
            digits.splice(..0, std::iter::repeat_n(0, zeros));
        }
        Some(Self::Finite(Finite { is_negative, digits, places: usize::try_from(places).unwrap_or(0) }))
    }

    /// The sum of both; none if it has no end.
    pub(crate) fn plus(self, other: Self) -> Option<Finite> {
        let (Self::Finite(one), Self::Finite(other)) = (self, other) else { return None };
        let sum = one.plus(other);
        let whole = sum.digits.len().saturating_sub(sum.places) as i64;
        (whole <= EXPONENT_MAX + 1).then_some(sum)
    }
}

impl Finite {
    fn plus(mut self, mut other: Self) -> Self {
        self.align(&other);
        other.align(&self);
        if self.is_negative == other.is_negative {
            add(&mut self.digits, &other.digits);
            return self;
        }
        if is_less(&self.digits, &other.digits) {
            std::mem::swap(&mut self, &mut other);
        }
        subtract(&mut self.digits, &other.digits);
        self
    }

    /// Has at least as many places as `other`, before the point and behind it.
    fn align(&mut self, other: &Self) {
        let more = other.places.saturating_sub(self.places);
        self.digits.splice(..0, std::iter::repeat_n(0, more));
        self.places += more;
        let whole = other.digits.len().saturating_sub(other.places);
        self.digits.resize(self.digits.len().max(self.places + whole), 0);
    }

    /// As Redis shows it: without an exponent, without zeros at its end.
    pub(crate) fn text(mut self) -> Vec<u8> {
        self.round();
        let first = self.digits.iter().rposition(|digit| *digit != 0);
        let Some(first) = first else { return b"0".to_vec() };
        let mut text = Vec::with_capacity(first + 4);
        if self.is_negative {
            text.push(b'-');
        }
        for at in (0..=first.max(self.places)).rev() {
            text.push(b'0' + self.digits.get(at).copied().unwrap_or(0));
            if at == self.places {
                text.push(b'.');
            }
        }
        while text.pop_if(|last| *last == b'0').is_some() {}
        text.pop_if(|last| *last == b'.');
        text
    }

    /// Leaves out what stands behind the places that are shown; of two that are equally near it takes the even one.
    fn round(&mut self) {
        let Some(cut) = self.places.checked_sub(SHOWN_PLACES).filter(|cut| *cut > 0) else { return };
        self.digits.resize(self.digits.len().max(cut + 1), 0);
        let rest: Vec<u8> = self.digits.drain(..cut).collect();
        self.places = SHOWN_PLACES;
        let (last, below) = (rest[cut - 1], &rest[..cut - 1]);
        let is_tie = last == 5 && below.iter().all(|digit| *digit == 0);
        if last > 5 || (last == 5 && !is_tie) || (is_tie && self.digits[0] % 2 == 1) {
            add(&mut self.digits, &[1]);
        }
    }
}

fn parse_exponent(text: &[u8]) -> Option<i64> {
    let (sign, digits) = match text {
        [b'-', digits @ ..] => (-1, digits),
        [b'+', digits @ ..] => (1, digits),
        _ => (1, text),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    // Beyond that all are alike: too far.
    let value = digits.iter().fold(0_i64, |value, digit| (value * 10 + i64::from(digit - b'0')).min(1 << 32));
    Some(sign * value)
}

/// Adds `other`, which has no more digits.
fn add(digits: &mut Vec<u8>, other: &[u8]) {
    let mut carry = 0;
    for (at, digit) in digits.iter_mut().enumerate() {
        let sum = *digit + other.get(at).copied().unwrap_or(0) + carry;
        (*digit, carry) = (sum % 10, sum / 10);
    }
    if carry > 0 {
        digits.push(carry);
    }
}

/// Takes `other` away, which is as long and no greater.
fn subtract(digits: &mut [u8], other: &[u8]) {
    let mut borrow = 0;
    for (digit, other) in digits.iter_mut().zip(other) {
        let difference = 10 + *digit - other - borrow;
        (*digit, borrow) = (difference % 10, u8::from(difference < 10));
    }
    debug_assert_eq!(borrow, 0, "the lesser is taken from the greater");
}

/// Whether `one`, which is as long as `other`, is less.
fn is_less(one: &[u8], other: &[u8]) -> bool {
    one.iter().rev().lt(other.iter().rev())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sum(one: &str, other: &str) -> Option<String> {
        let sum = Decimal::parse(one.as_bytes())?.plus(Decimal::parse(other.as_bytes())?)?;
        Some(String::from_utf8(sum.text()).expect("digits"))
    }

    #[test]
    fn sums_are_exact() {
        let nines = "9".repeat(40);
        for (one, other, expected) in [
            ("10.5", "0.1", "10.6"),
            ("3000", "0.1", "3000.1"),
            ("3.0e3", "200", "3200"),
            ("5.0e3", "2.0E+2", "5200"),
            ("1.5", "-1.5", "0"),
            ("-1", "0.25", "-0.75"),
            ("1", "-0.25", "0.75"),
            ("0.25", "-1", "-0.75"),
            ("-0", "0", "0"),
            (".5", "5.", "5.5"),
            ("+5", "0005", "10"),
            ("9223372036854775807", "1.5", "9223372036854775808.5"),
            (&nines, "1", &format!("1{}", "0".repeat(40))),
            ("1e-30", "0", "0"),
            ("-1e-30", "0", "0"),
            ("0.000000000000000005", "0", "0"),
            ("0.000000000000000015", "0", "0.00000000000000002"),
            ("0.000000000000000005", "1e-30", "0.00000000000000001"),
            ("0.0000000000000000049", "0", "0"),
            ("0.999999999999999999", "0", "1"),
            ("-9.9999999999999999999", "0", "-10"),
            ("1e20", "1e-17", "100000000000000000000.00000000000000001"),
            ("00000.000", "1e2", "100"),
        ] {
            assert_eq!(sum(one, other).as_deref(), Some(expected), "{one} and {other}");
        }
    }

    #[test]
    fn what_is_no_number_is_told() {
        let long = "1".repeat(TEXT_BYTES_MAX);
        let texts =
            ["", "-", ".", "e5", "1e", "1e+", "1.2.3", " 1", "1 ", "nan", "0x10", "--1", "1e5000", "1e-5000", &long];
        for text in texts {
            assert_eq!(Decimal::parse(text.as_bytes()), None, "{text}");
        }
        for text in ["inf", "-INF", "+Infinity"] {
            assert_eq!(Decimal::parse(text.as_bytes()), Some(Decimal::Infinite), "{text}");
        }
        assert_eq!(sum("inf", "1"), None);
        assert_eq!(sum("9e4932", "9e4932"), None, "it is too great");
        assert_eq!(sum("1e4932", "0").map(|text| text.len()), Some(4_933));
        assert_eq!(Decimal::parse(b"1e99999999999999999999"), None);
    }

    proptest! {
        #[test]
        fn sums_are_those_of_integers(one in -(1_i64 << 62)..1_i64 << 62, other in -(1_i64 << 62)..1_i64 << 62) {
            prop_assert_eq!(sum(&one.to_string(), &other.to_string()), Some((one + other).to_string()));
            // The same with four places behind the point.
            let scaled = |number: i64| format!("{number}e-4");
            let text = sum(&scaled(one), &scaled(other)).expect("a sum");
            let shown = Decimal::parse(text.as_bytes()).expect("a number");
            let Decimal::Finite(shown) = shown else { panic!("it has an end") };
            prop_assert_eq!(sum(&format!("{}e4", String::from_utf8(shown.text()).unwrap()), "0"),
                Some((one + other).to_string()));
        }

        #[test]
        fn any_text_is_a_number_or_none(text in "[-+.0-9eE]{0,12}") {
            if let Some(Decimal::Finite(finite)) = Decimal::parse(text.as_bytes()) {
                let shown = finite.text();
                prop_assert!(Decimal::parse(&shown).is_some());
            }
        }
    }
}
