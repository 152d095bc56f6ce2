//! Why a node does not start on a data directory.

use std::fmt;

use crate::disk::FileId;

/// Why a node must not start on a data directory. Nothing in it was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadFailure {
    /// It was written by a node of another name.
    Name(String),
    /// It was written by a node of another cluster.
    Cluster(String),
    /// It was written by a newer build.
    Format(FileId, u16),
    /// It is damaged, and the node was told not to start then.
    Damaged(FileId, u64),
}

impl fmt::Display for LoadFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(
                f,
                "it is that of a node named {name}; start that node on it (--name {name}), or this one on another \
                 directory"
            ),
            Self::Cluster(cluster) => write!(
                f,
                "it is that of a node of the cluster {cluster}; start it with --cluster {cluster}, or on another \
                 directory"
            ),
            Self::Format(file, format) => {
                write!(f, "{file} has format {format}, which only a newer build reads; nothing was changed")
            }
            Self::Damaged(file, at) => write!(
                f,
                "{file} is damaged at byte {at}, and recovery is strict; nothing was changed. Without \
                 --strict-recovery the node starts with what can be read, and gets the rest from its peers"
            ),
        }
    }
}
