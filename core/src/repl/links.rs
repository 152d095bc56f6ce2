//! The links of a node.

use crate::boundary::ConnId;
use crate::repl::link::Link;

/// Links by connection: a bounded table in the order of their names, so that nothing depends on a hash. All are gone
/// through at each tick and each statement, one is opened or closed now and then: so they lie side by side.
#[derive(Debug, Default)]
pub(crate) struct Links {
    conns: Vec<ConnId>,
    /// In the same order.
    links: Vec<Link>,
}

impl Links {
    pub(crate) fn len(&self) -> usize {
        self.links.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    pub(crate) fn keys(&self) -> std::slice::Iter<'_, ConnId> {
        self.conns.iter()
    }

    pub(crate) fn values(&self) -> std::slice::Iter<'_, Link> {
        self.links.iter()
    }

    pub(crate) fn values_mut(&mut self) -> std::slice::IterMut<'_, Link> {
        self.links.iter_mut()
    }

    pub(crate) fn get(&self, conn: &ConnId) -> Option<&Link> {
        self.conns.binary_search(conn).ok().map(|at| &self.links[at])
    }

    pub(crate) fn get_mut(&mut self, conn: &ConnId) -> Option<&mut Link> {
        self.conns.binary_search(conn).ok().map(|at| &mut self.links[at])
    }

    /// Adds a link, in the place of the one that had its name.
    pub(crate) fn insert(&mut self, conn: ConnId, link: Link) {
        match self.conns.binary_search(&conn) {
            Ok(at) => self.links[at] = link,
            Err(at) => {
                self.conns.insert(at, conn);
                self.links.insert(at, link);
            }
        }
    }

    pub(crate) fn remove(&mut self, conn: &ConnId) -> Option<Link> {
        let at = self.conns.binary_search(conn).ok()?;
        self.conns.remove(at);
        Some(self.links.remove(at))
    }
}
