//! The allocator of the programs: jemalloc, with size classes 8 bytes apart.
//!
//! An entry of the store is one small allocation, so what lies between its size and the next class is lost a million
//! times. jemalloc's classes are 16 bytes apart by default. `.cargo/config.toml` has it built with 8: an entry with a
//! key of 16 bytes and a value of 8 takes 40 bytes and not 48. Where the tree is built without that file, nothing but
//! memory is lost.
//!
//! With classes 8 bytes apart an allocation of 24 or 40 bytes is aligned to 8. `tikv-jemallocator` counts on 16 as long
//! as the size is at least that, and says nothing to jemalloc of an alignment of 16 or less: so what must be aligned to
//! 16, as the tables of hash maps, might not be. [`Aligned`] asks for 32 in its place, which jemalloc is told.
//!
//! What is free for ten seconds jemalloc gives back to the system, on threads of its own, so that no turn waits for it.
//!
//! Besides the core's entries, its prefetch, and tests, this is the only module with `unsafe` code. Its invariants:
//! 1. Every call of one allocation asks the inner allocator with the same alignment: `asked` is a function of the
//!    layout's alignment and size alone, and fails only for sizes that no allocation has.
//! 2. The size that is asked for is the caller's, and the alignment is no less: what the inner one promises is enough.
#![expect(unsafe_code, reason = "an allocator cannot be written without")]

use std::alloc::{GlobalAlloc, Layout};
use std::ptr;

use tikv_jemallocator::Jemalloc;

/// For `#[global_allocator]`.
pub const ALLOCATOR: Allocator = Aligned(Jemalloc);

/// See [`ALLOCATOR`].
pub type Allocator = Aligned<Jemalloc>;

/// The alignment that is taken for granted, and may be missing.
const ASSUMED: usize = 16;

/// What is asked for in its place: the least that is not taken for granted.
const TOLD: usize = 2 * ASSUMED;

/// Asks `Inner` for what it is asked for, with an alignment of 32 in place of 16.
#[derive(Clone, Copy, Debug, Default)]
pub struct Aligned<Inner>(Inner);

/// What the inner allocator is asked for; none if nothing so large can be allocated.
#[inline]
fn asked(layout: Layout) -> Option<Layout> {
    if layout.align() == ASSUMED { layout.align_to(TOLD).ok() } else { Some(layout) }
}

// SAFETY: what the inner allocator gives keeps the caller's promises (2), it is called as it has to be (1), and nothing
// here panics.
unsafe impl<Inner: GlobalAlloc> GlobalAlloc for Aligned<Inner> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(asked) = asked(layout) else { return ptr::null_mut() };
        // SAFETY: the size is the caller's, and so not 0.
        unsafe { self.0.alloc(asked) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let Some(asked) = asked(layout) else { return ptr::null_mut() };
        // SAFETY: the size is the caller's, and so not 0.
        unsafe { self.0.alloc_zeroed(asked) }
    }

    #[inline]
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        let Some(asked) = asked(layout) else { return };
        // SAFETY: the caller was given `at` for this layout, so the inner one gave it for what is asked (1).
        unsafe { self.0.dealloc(at, asked) }
    }

    #[inline]
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        let Some(asked) = asked(layout) else { return ptr::null_mut() };
        if asked.align() != layout.align() && Layout::from_size_align(bytes, asked.align()).is_err() {
            return ptr::null_mut();
        }
        // SAFETY: as for `dealloc`; the new size is not 0, as the caller promises, and not too large for either
        // alignment.
        unsafe { self.0.realloc(at, asked, bytes) }
    }
}

#[cfg(test)]
mod tests;
