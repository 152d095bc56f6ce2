use std::alloc::System;

use super::*;

/// Sizes around all classes of small allocations, and some large ones. Miri is some thousand times slower.
fn sizes() -> impl Iterator<Item = usize> {
    let (small, large) =
        if cfg!(miri) { (1..=72, &[200][..]) } else { (1..=1_100, &[4_000, 4_097, 16_385, 70_001][..]) };
    small.chain(large.iter().copied())
}

const ALIGNMENTS: [usize; 9] = [1, 2, 4, 8, 16, 32, 64, 256, 4_096];

/// How many of each are held at once: in a slab, one stands at 0 and the next where its size says.
const HELD: usize = 5;

/// Something that was allocated, full of one byte.
struct Block {
    at: *mut u8,
    layout: Layout,
    byte: u8,
}

impl Block {
    fn new(allocator: &impl GlobalAlloc, layout: Layout, byte: u8, is_zeroed: bool) -> Self {
        // SAFETY: no size here is 0.
        let at = unsafe { if is_zeroed { allocator.alloc_zeroed(layout) } else { allocator.alloc(layout) } };
        let block = Self { at, layout, byte };
        block.check_place();
        if is_zeroed {
            assert!(block.bytes(layout.size()).iter().all(|byte| *byte == 0), "{layout:?}");
        }
        block.fill();
        block
    }

    fn check_place(&self) {
        assert!(!self.at.is_null(), "{:?}", self.layout);
        assert_eq!(self.at.addr() % self.layout.align(), 0, "{:?} at {:p}", self.layout, self.at);
    }

    fn fill(&self) {
        // SAFETY: all of it was allocated.
        unsafe { self.at.write_bytes(self.byte, self.layout.size()) };
    }

    /// The first `count` of what was written.
    fn bytes(&self, count: usize) -> &[u8] {
        // SAFETY: it was allocated and written, at least so much of it.
        unsafe { std::slice::from_raw_parts(self.at, count) }
    }

    fn resize(&mut self, allocator: &impl GlobalAlloc, size: usize) {
        let kept = size.min(self.layout.size());
        // SAFETY: it was allocated so, and the size is not 0.
        self.at = unsafe { allocator.realloc(self.at, self.layout, size) };
        self.layout = Layout::from_size_align(size, self.layout.align()).unwrap();
        self.check_place();
        assert!(self.bytes(kept).iter().all(|byte| *byte == self.byte), "{:?}", self.layout);
        self.fill();
    }

    fn free(self, allocator: &impl GlobalAlloc) {
        assert!(self.bytes(self.layout.size()).iter().all(|byte| *byte == self.byte), "{:?}", self.layout);
        // SAFETY: it was allocated so, and nobody uses it any more.
        unsafe { allocator.dealloc(self.at, self.layout) };
    }
}

/// Everything of every size and alignment, several at once.
fn check(allocator: &impl GlobalAlloc) {
    for align in ALIGNMENTS {
        for size in sizes() {
            let layout = Layout::from_size_align(size, align).unwrap();
            let new = |byte| Block::new(allocator, layout, byte, byte % 2 == 0);
            let mut held: Vec<Block> = (1..=HELD as u8).map(new).collect();
            // To where it stays in place mostly, to where it moves, and back.
            for to in [size + 7, 3 * size + 8, size] {
                held.iter_mut().for_each(|block| block.resize(allocator, to));
            }
            held.into_iter().for_each(|block| block.free(allocator));
        }
    }
}

/// As jemalloc with classes 8 bytes apart at its worst, over the system's allocator: what is as large as it is to be
/// aligned, and that to no more than 16, is aligned to 8.
struct Grudging;

impl Grudging {
    /// What is allocated for a layout, and how far behind its start what is given begins.
    fn whole(layout: Layout) -> (Layout, usize) {
        let is_trusted = layout.align() <= 16 && layout.align() <= layout.size();
        let align = layout.align().max(64);
        (Layout::from_size_align(layout.size() + 8, align).unwrap(), if is_trusted { 8 } else { 0 })
    }
}

// SAFETY: as much as that of the system, but for the alignment, which is what it is about.
unsafe impl GlobalAlloc for Grudging {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (whole, behind) = Self::whole(layout);
        // SAFETY: of the 8 bytes more none is behind the end.
        unsafe { System.alloc(whole).add(behind) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        let (whole, behind) = Self::whole(layout);
        // SAFETY: as it was given.
        unsafe { System.dealloc(at.sub(behind), whole) };
    }
}

#[test]
fn all_is_aligned_whatever_the_inner_one_takes_for_granted() {
    check(&Aligned(System));
    check(&Aligned(Grudging));
}

#[test]
fn the_grudging_one_gives_what_would_be_noticed() {
    let layout = Layout::from_size_align(32, ASSUMED).unwrap();
    // SAFETY: the size is not 0, and it is freed as it was allocated.
    unsafe {
        let at = Grudging.alloc(layout);
        assert_ne!(at.addr() % ASSUMED, 0);
        Grudging.dealloc(at, layout);
    }
}

#[cfg(not(miri))]
#[test]
fn jemalloc_is_as_it_should_be() {
    check(&ALLOCATOR);
    for (asked, class) in [(17, 24), (33, 40), (40, 40), (49, 56), (80, 80), (81, 96)] {
        let block = Block::new(&ALLOCATOR, Layout::from_size_align(asked, 8).unwrap(), 1, false);
        // SAFETY: jemalloc has just given it.
        let bytes = unsafe { tikv_jemallocator::usable_size(block.at) };
        assert_eq!(bytes, class, "{asked} bytes: jemalloc was not built as .cargo/config.toml says");
        block.free(&ALLOCATOR);
    }
}

#[test]
fn what_is_too_large_for_the_greater_alignment_is_refused() {
    let allocator = Aligned(System);
    let largest = Layout::from_size_align(isize::MAX as usize + 1 - ASSUMED, ASSUMED).unwrap();
    // SAFETY: no size is 0; what is refused leaves the old one as it is.
    unsafe {
        assert!(allocator.alloc(largest).is_null() && allocator.alloc_zeroed(largest).is_null());
        let block = Block::new(&allocator, Layout::from_size_align(40, ASSUMED).unwrap(), 7, false);
        assert!(allocator.realloc(block.at, block.layout, largest.size()).is_null());
        block.free(&allocator);
    }
}
