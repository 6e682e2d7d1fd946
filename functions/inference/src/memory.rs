//! The allocator, made for snapshots. A snapshot is a picture of the whole memory, and every request starts from it
//! anew: what was written there has to be put back.
//!
//! - While the model is loaded, what is freed is zeroed: otherwise the snapshot would carry the model's file, its parsed
//!   form and every step of its optimisation along with the one that is kept.
//! - Requests have memory of their own, behind that of the model, instead of the gaps in it. Then what they write is one
//!   piece, and the host need not look for hundreds, nor touch the pages between them.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    arch::wasm32::memory_grow,
    cell::{Cell, UnsafeCell},
    hint::black_box,
    ptr::null_mut,
};

use dlmalloc::{Allocator, Dlmalloc};

const PAGE_BYTES: usize = 1 << 16;

/// What the snapshot has ready for a request, so that it need not ask for memory: a picture's share with a network of
/// some millions of parameters. It costs nothing until it is written to.
const RESERVE_BYTES: usize = 16 << 20;

#[global_allocator]
static MEMORY: Memory = Memory {
    scrubs: Cell::new(false),
    requests_at: Cell::new(usize::MAX),
    of_requests: UnsafeCell::new(Dlmalloc::new_with_allocator(Reserve(Cell::new(0)))),
};

struct Memory {
    scrubs: Cell<bool>,
    /// Address from which on all memory is that of requests; there is none at first.
    requests_at: Cell<usize>,
    of_requests: UnsafeCell<Dlmalloc<Reserve>>,
}

// SAFETY: a component has one thread.
unsafe impl Sync for Memory {}

/// Zeroes all memory that this work frees.
pub(crate) fn while_scrubbing<T>(work: impl FnOnce() -> T) -> T {
    MEMORY.scrubs.set(true);
    let done = work();
    MEMORY.scrubs.set(false);
    done
}

/// From now on, what is allocated lies apart from what has been.
pub(crate) fn set_apart() {
    let pages = memory_grow::<0>(RESERVE_BYTES / PAGE_BYTES);
    // Without room for it, everything stays as it is.
    if pages != usize::MAX {
        let base = pages * PAGE_BYTES;
        // SAFETY: nothing of it is in use: requests have no memory yet, and the component has one thread.
        unsafe { *MEMORY.of_requests.get() = Dlmalloc::new_with_allocator(Reserve(Cell::new(base))) };
        MEMORY.requests_at.set(base);
    }
}

impl Memory {
    fn is_apart(&self) -> bool {
        self.requests_at.get() != usize::MAX
    }

    fn is_of_requests(&self, block: *mut u8) -> bool {
        block.addr() >= self.requests_at.get()
    }

    /// # Safety
    /// The reference must be gone before the next one is made.
    #[expect(clippy::mut_from_ref, reason = "it comes from a cell")]
    unsafe fn of_requests(&self) -> &mut Dlmalloc<Reserve> {
        // SAFETY: as the caller promises, it is the only one; the component has one thread.
        unsafe { &mut *self.of_requests.get() }
    }
}

// SAFETY: every call goes to the allocator whose memory it is about, with the arguments it came with: the system's
// allocates nothing any more once requests have memory of their own, so that what lies behind is theirs. Memory is only
// written while this allocator's caller still owns it.
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        unsafe {
            match self.is_apart() {
                true => self.of_requests().malloc(layout.size(), layout.align()),
                false => System.alloc(layout),
            }
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        unsafe {
            match self.is_apart() {
                true => self.of_requests().calloc(layout.size(), layout.align()),
                false => System.alloc_zeroed(layout),
            }
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if self.is_of_requests(block) {
            // SAFETY: as the caller promises.
            return unsafe { self.of_requests().free(block, layout.size(), layout.align()) };
        }
        if self.scrubs.get() {
            // SAFETY: the block is the caller's, of this size, until it is freed below.
            unsafe { block.write_bytes(0, layout.size()) };
            // A compiler that knows what `free` does would leave out writing what nobody can read again.
            black_box(block);
        }
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if self.is_of_requests(block) {
            // SAFETY: as the caller promises.
            return unsafe { self.of_requests().realloc(block, layout.size(), layout.align(), size) };
        }
        if !self.scrubs.get() && !self.is_apart() {
            // SAFETY: as the caller promises.
            return unsafe { System.realloc(block, layout, size) };
        }
        // SAFETY: the caller promises that the new size makes a layout; old and new block are distinct and both at
        // least as long as what is copied.
        unsafe {
            let moved = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !moved.is_null() {
                moved.copy_from_nonoverlapping(block, layout.size().min(size));
                self.dealloc(block, layout);
            }
            moved
        }
    }
}

/// Where requests' memory comes from: first what was set apart at this address (none if it is 0), then more of it.
struct Reserve(Cell<usize>);

// SAFETY: what it hands out is nobody else's: what was set apart, once, and what memory grows by.
unsafe impl Allocator for Reserve {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        let base = self.0.take();
        if base != 0 && size <= RESERVE_BYTES {
            return (base as *mut u8, RESERVE_BYTES, 0);
        }
        let pages = size.div_ceil(PAGE_BYTES);
        match memory_grow::<0>(pages) {
            usize::MAX => (null_mut(), 0, 0),
            before => ((before * PAGE_BYTES) as *mut u8, pages * PAGE_BYTES, 0),
        }
    }

    fn remap(&self, _: *mut u8, _: usize, _: usize, _: bool) -> *mut u8 {
        null_mut()
    }

    fn free_part(&self, _: *mut u8, _: usize, _: usize) -> bool {
        false
    }

    fn free(&self, _: *mut u8, _: usize) -> bool {
        false
    }

    fn can_release_part(&self, _: u32) -> bool {
        false
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        PAGE_BYTES
    }
}
