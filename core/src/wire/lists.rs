//! Lists that peers send each other: who the members are and where they are reached, who has a seat in the roster, and
//! whose runs origins were.

use crate::origins::ORIGINS_MAX;
use crate::version::{Hlc, OriginId, Version};
use crate::wire::num::{Bytes, put_varint};
use crate::wire::peer::{
    ADDRESS_BYTES_MAX, KIND_MEMBERS, KIND_ROSTER, KIND_WRITERS, MEMBERS_MAX, NAME_BYTES_MAX, SEATS_MAX, emit, put_text,
    put_u64, put_version,
};

/// A list of (member name, address) in a frame, whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MembersView<'a> {
    count: usize,
    bytes: &'a [u8],
}

impl<'a> MembersView<'a> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let mut bytes = Bytes(self.bytes);
        (0..self.count).map_while(move |_| bytes.member())
    }
}

/// One member's seat, as it travels; without a name, the seal of a roster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SeatView<'a> {
    pub(crate) name: &'a str,
    pub(crate) version: Version,
    /// The run that lost the seat; `None`: the member has it.
    pub(crate) gone: Option<OriginId>,
    /// When the name lost its seat last: of a seat that is lost, its version.
    pub(crate) lost: Option<Version>,
}

/// A decision by which somebody comes back. One that is about somebody counts for more than a seal: a side may seal its
/// roster after another has decided to forget one of it.
/// (`sim/regressions/came-back-to-those-who-had-forgotten-each-other-s-members`)
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Decision {
    pub(crate) about_somebody: bool,
    pub(crate) version: Version,
}

/// A list of seats in a frame, whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RosterView<'a> {
    count: usize,
    bytes: &'a [u8],
}

/// A list of (origin, name of the member whose run it is) in a frame, whole and strictly ordered by origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WritersView<'a> {
    count: usize,
    bytes: &'a [u8],
}

impl<'a> RosterView<'a> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = SeatView<'a>> {
        let mut bytes = Bytes(self.bytes);
        (0..self.count).map_while(move |_| bytes.seat())
    }
}

impl<'a> WritersView<'a> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (OriginId, &'a str)> {
        let mut bytes = Bytes(self.bytes);
        (0..self.count).map_while(move |_| bytes.writer())
    }
}

/// In the place of the version by which a seat was lost that never was.
const NEVER: Version = Version { hlc: Hlc::ZERO, origin: OriginId(0) };

pub(crate) fn emit_roster<'a>(seats: impl Iterator<Item = SeatView<'a>> + Clone, out: &mut Vec<u8>) {
    emit(KIND_ROSTER, out, |out| {
        put_varint(out, seats.clone().count() as u64);
        for seat in seats {
            put_text(out, seat.name);
            put_version(out, seat.version);
            put_u64(out, seat.gone.map_or(0, |run| run.0));
            if seat.gone.is_none() {
                put_version(out, seat.lost.unwrap_or(NEVER));
            }
        }
    });
}

pub(crate) fn emit_members<'a>(members: impl Iterator<Item = (&'a str, &'a str)> + Clone, out: &mut Vec<u8>) {
    emit(KIND_MEMBERS, out, |out| {
        put_varint(out, members.clone().count() as u64);
        for (name, address) in members {
            put_text(out, name);
            put_text(out, address);
        }
    });
}

pub(crate) fn emit_writers<'a>(writers: impl Iterator<Item = (OriginId, &'a str)> + Clone, out: &mut Vec<u8>) {
    emit(KIND_WRITERS, out, |out| {
        put_varint(out, writers.clone().count() as u64);
        for (origin, name) in writers {
            put_u64(out, origin.0);
            put_text(out, name);
        }
    });
}

/// The lists' fields.
impl<'a> Bytes<'a> {
    fn member(&mut self) -> Option<(&'a str, &'a str)> {
        Some((self.text(NAME_BYTES_MAX)?, self.text(ADDRESS_BYTES_MAX)?))
    }

    fn seat(&mut self) -> Option<SeatView<'a>> {
        let name = self.text(NAME_BYTES_MAX)?;
        let version = self.version().filter(|version| version.origin.0 != 0)?;
        let gone = self.u64()?;
        // Nobody's seat is lost, if it is there at all.
        if name.is_empty() && gone == 0 {
            return None;
        }
        let gone = (gone != 0).then_some(OriginId(gone));
        let lost = if gone.is_some() { version } else { self.version()? };
        // A seat is given after it was lost, by who knows that.
        if gone.is_none() && lost >= version {
            return None;
        }
        Some(SeatView { name, version, gone, lost: (lost != NEVER).then_some(lost) })
    }

    pub(super) fn roster(&mut self) -> Option<RosterView<'a>> {
        let count = usize::try_from(self.varint()?).ok().filter(|count| *count <= SEATS_MAX)?;
        let bytes = self.0;
        for _ in 0..count {
            self.seat()?;
        }
        Some(RosterView { count, bytes: &bytes[..bytes.len() - self.0.len()] })
    }

    pub(super) fn members(&mut self) -> Option<MembersView<'a>> {
        let count = usize::try_from(self.varint()?).ok().filter(|count| *count <= MEMBERS_MAX)?;
        let bytes = self.0;
        for _ in 0..count {
            self.member()?;
        }
        Some(MembersView { count, bytes: &bytes[..bytes.len() - self.0.len()] })
    }

    fn writer(&mut self) -> Option<(OriginId, &'a str)> {
        Some((self.origin()?, self.text(NAME_BYTES_MAX).filter(|name| !name.is_empty())?))
    }

    pub(super) fn writers(&mut self) -> Option<WritersView<'a>> {
        let count = usize::try_from(self.varint()?).ok().filter(|count| *count <= ORIGINS_MAX)?;
        let bytes = self.0;
        let mut last = OriginId(0);
        for _ in 0..count {
            let (origin, _) = self.writer().filter(|(origin, _)| *origin > last)?;
            last = origin;
        }
        Some(WritersView { count, bytes: &bytes[..bytes.len() - self.0.len()] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::next_frame;
    use crate::version::Hlc;
    use crate::wire::peer::{Frame, parse};

    fn body(out: &[u8]) -> &[u8] {
        next_frame(out, 1 << 20).unwrap().unwrap()
    }

    #[test]
    fn members_come_back_and_control_characters_do_not() {
        let mut out = Vec::new();
        emit_members([("a", "a:1"), ("b", "b:2")].into_iter(), &mut out);
        let Some(Frame::Members(view)) = parse(body(&out)) else { panic!("a member list") };
        assert_eq!(view.iter().collect::<Vec<_>>(), [("a", "a:1"), ("b", "b:2")]);
        let mut out = Vec::new();
        emit_members([("a\x1b[2J", "a:1")].into_iter(), &mut out);
        assert_eq!(parse(body(&out)), None);
    }

    #[test]
    fn writers_come_back_and_only_in_order_and_with_a_name() {
        let check = |list: &[(u64, &str)]| {
            let mut out = Vec::new();
            emit_writers(list.iter().map(|(origin, name)| (OriginId(*origin), *name)), &mut out);
            match parse(body(&out)) {
                Some(Frame::Writers(view)) => {
                    view.iter().map(|(origin, name)| (origin.0, name)).eq(list.iter().copied())
                }
                _ => false,
            }
        };
        for list in [&[][..], &[(3, "a")], &[(3, "b"), (4, "b"), (u64::MAX, "a")]] {
            assert!(check(list), "{list:?}");
        }
        for list in [&[(0, "a")][..], &[(4, "a"), (3, "b")], &[(3, "a"), (3, "b")], &[(3, "")], &[(3, "\x1b[2J")]] {
            assert!(!check(list), "{list:?}");
        }
        let many: Vec<(u64, &str)> = (1..=ORIGINS_MAX as u64 + 1).map(|origin| (origin, "a")).collect();
        assert!(check(&many[1..]) && !check(&many));
    }

    #[test]
    fn seats_come_back_and_nobodys_is_there() {
        let (run, nobody) = (Some(OriginId(7)), Some(OriginId(0)));
        let check = |list: &[(&'static str, u64, Option<OriginId>)]| {
            let seats = list.iter().map(|&(name, origin, gone)| {
                let version = Version { hlc: Hlc(5), origin: OriginId(origin) };
                SeatView { name, version, gone, lost: gone.map(|_| version) }
            });
            let mut out = Vec::new();
            emit_roster(seats.clone(), &mut out);
            matches!(parse(body(&out)), Some(Frame::Roster(view)) if view.iter().eq(seats))
        };
        for list in [&[][..], &[("a", 1, None)], &[("b", 2, run), ("a", 1, None)], &[("", 1, run)]] {
            assert!(check(list), "{list:?}");
        }
        for list in [("a", 0, None), ("", 1, None), ("", 1, nobody), ("\x1b[2J", 1, None)] {
            assert!(!check(&[list]), "{list:?}");
        }
        let many = vec![("a", 1, None); SEATS_MAX + 1];
        assert!(check(&many[1..]) && !check(&many));
    }

    #[test]
    fn a_seat_is_given_after_it_was_lost() {
        let check = |lost: u64| {
            let version = |hlc| Version { hlc: Hlc(hlc), origin: OriginId(1) };
            let seat = SeatView { name: "a", version: version(5), gone: None, lost: Some(version(lost)) };
            let mut out = Vec::new();
            emit_roster(std::iter::once(seat), &mut out);
            matches!(parse(body(&out)), Some(Frame::Roster(view)) if view.iter().eq([seat]))
        };
        assert_eq!([4, 5, 6].map(check), [true, false, false]);
    }

    #[test]
    fn nothing_follows_a_list() {
        let lists: [fn(&mut Vec<u8>); 3] = [
            |out| emit_roster(std::iter::empty(), out),
            |out| emit_members([("a", "a:1")].into_iter(), out),
            |out| emit_writers([(OriginId(1), "a")].into_iter(), out),
        ];
        for write in lists {
            let mut out = Vec::new();
            write(&mut out);
            assert!(parse(body(&out)).is_some());
            assert_eq!(parse(&[body(&out), &[0]].concat()), None);
        }
    }

    #[test]
    fn members_have_names_and_addresses_of_a_bounded_length() {
        let check = |name: usize, address: usize, count: usize| {
            let (name, address) = ("n".repeat(name), "a".repeat(address));
            let mut out = Vec::new();
            emit_members((0..count).map(|_| (&*name, &*address)), &mut out);
            matches!(parse(body(&out)), Some(Frame::Members(view)) if view.iter().count() == count)
        };
        assert!(check(NAME_BYTES_MAX, ADDRESS_BYTES_MAX, 1) && check(1, 1, MEMBERS_MAX) && check(1, 1, 0));
        assert!(
            !check(NAME_BYTES_MAX + 1, 1, 1) && !check(1, ADDRESS_BYTES_MAX + 1, 1) && !check(1, 1, MEMBERS_MAX + 1)
        );
    }
}
