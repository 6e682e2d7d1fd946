//! An allocator that can zero what is freed. A snapshot is a picture of the whole memory: without this it would carry
//! the model's file, its parsed form and every step of its optimisation along with the one that is kept.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    hint::black_box,
    sync::atomic::{AtomicBool, Ordering},
};

#[global_allocator]
static ALLOCATOR: Scrubber = Scrubber { scrubs: AtomicBool::new(false) };

struct Scrubber {
    scrubs: AtomicBool,
}

/// Zeroes all memory that this work frees.
pub(crate) fn while_scrubbing<T>(work: impl FnOnce() -> T) -> T {
    ALLOCATOR.scrubs.store(true, Ordering::Relaxed);
    let done = work();
    ALLOCATOR.scrubs.store(false, Ordering::Relaxed);
    done
}

// SAFETY: every call goes to the system's allocator with the arguments it came with; memory is only written while
// this allocator's caller still owns it.
unsafe impl GlobalAlloc for Scrubber {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if self.scrubs.load(Ordering::Relaxed) {
            // SAFETY: the block is the caller's, of this size, until it is freed below.
            unsafe { block.write_bytes(0, layout.size()) };
            // A compiler that knows what `free` does would leave out writing what nobody can read again.
            black_box(block);
        }
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !self.scrubs.load(Ordering::Relaxed) {
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
