//! The allocator, made for snapshots. A snapshot is a picture of the whole memory, and every request starts from it
//! anew: what was written there has to be put back.
//!
//! - While the model is loaded, what is freed is zeroed: otherwise the snapshot would carry the model's file, its parsed
//!   form and every step of its optimisation along with the one that is kept.
//! - Requests have memory of their own, before that of the model, instead of the gaps in it. Then what they write is one
//!   piece. wasmtime wipes the first 32 pieces in place and gives back all that follows: it is to be among the first.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    arch::wasm32::{memory_grow, memory_size},
    cell::{Cell, UnsafeCell},
    hint::black_box,
    ptr::null_mut,
};

use dlmalloc::{Allocator, Dlmalloc};

const PAGE_BYTES: usize = 1 << 16;

/// What the snapshot has ready for a request: a picture's share with a network of some millions of parameters. What
/// exceeds it lies behind the model.
const RESERVE_BYTES: usize = 8 << 20;

#[global_allocator]
static MEMORY: Memory = Memory {
    scrubs: Cell::new(false),
    reserve: Cell::new(0),
    end_of_model: Cell::new(usize::MAX),
    of_requests: UnsafeCell::new(Dlmalloc::new_with_allocator(Reserve { is_used: Cell::new(false) })),
};

struct Memory {
    scrubs: Cell<bool>,
    /// Address of what is reserved for requests; 0 without it.
    reserve: Cell<usize>,
    /// Address from which on all memory is that of requests, too; there is none while the model is loaded.
    end_of_model: Cell<usize>,
    of_requests: UnsafeCell<Dlmalloc<Reserve>>,
}

// SAFETY: a component has one thread.
unsafe impl Sync for Memory {}

/// Loads what all requests share: zeroes all memory that this work frees, and afterwards, what is allocated lies apart.
pub(crate) fn while_loading<T>(work: impl FnOnce() -> T) -> T {
    let before = memory_grow::<0>(RESERVE_BYTES / PAGE_BYTES);
    MEMORY.scrubs.set(true);
    let done = work();
    MEMORY.scrubs.set(false);
    // Without room for a reserve, everything stays together.
    if before != usize::MAX {
        MEMORY.reserve.set(before * PAGE_BYTES);
        MEMORY.end_of_model.set(memory_size::<0>() * PAGE_BYTES);
    }
    done
}

impl Memory {
    fn is_apart(&self) -> bool {
        self.end_of_model.get() != usize::MAX
    }

    fn is_of_requests(&self, block: *mut u8) -> bool {
        let reserve = self.reserve.get();
        self.is_apart()
            && ((reserve..reserve + RESERVE_BYTES).contains(&block.addr()) || block.addr() >= self.end_of_model.get())
    }

    /// # Safety
    /// The reference must be gone before the next one is made.
    #[expect(clippy::mut_from_ref, reason = "it comes from a cell")]
    unsafe fn of_requests(&self) -> &mut Dlmalloc<Reserve> {
        // SAFETY: as the caller promises, it is the only one; the component has one thread.
        unsafe { &mut *self.of_requests.get() }
    }
}

// SAFETY: every call goes to the allocator whose memory it is about, with the arguments it came with: the system's never
// had the reserve, and allocates nothing any more once requests have memory of their own, so that what lies behind the
// model is theirs. Memory is only written while this allocator's caller still owns it.
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

/// Where requests' memory comes from: first what was reserved, then more of it.
struct Reserve {
    is_used: Cell<bool>,
}

// SAFETY: what it hands out is nobody else's: what was reserved, once, and what memory grows by.
unsafe impl Allocator for Reserve {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        if size <= RESERVE_BYTES && !self.is_used.replace(true) {
            return (MEMORY.reserve.get() as *mut u8, RESERVE_BYTES, 0);
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
