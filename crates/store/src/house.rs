//! Who serves the volumes: a page holds a lock as long as it runs, and says where it is. Whoever wants to change what is
//! served asks it; where there is none, the registry may be changed directly.

use std::{
    fs::{File, TryLockError},
    io::{Read, Write},
    path::PathBuf,
};

use crate::{Result, StoreError, Volumes};

/// On volume 2: a page's address, under the lock of whoever serves.
const HOUSE: &str = ".house";

/// Longest address that is read.
const ADDRESS_BYTES: u64 = 1 << 10;

/// Held as long as somebody serves the volumes, or changes them while nobody does.
#[derive(Debug)]
pub struct HouseLock(File);

impl Drop for HouseLock {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

/// Whether somebody serves the volumes.
#[derive(Debug)]
pub enum House {
    /// A page does, at this address as it says itself.
    Served(String),
    /// Nobody does, nor will before this lock is dropped.
    Empty(HouseLock),
}

impl Volumes {
    /// Says that a page at `address` serves these volumes until the lock is dropped. Several pages may; the last one's
    /// address is told.
    pub fn serve(&self, address: &str) -> Result<HouseLock> {
        let path = self.house_path();
        let mut file = open(&path)?;
        file.lock_shared().map_err(StoreError::write(&path))?;
        file.set_len(0).and_then(|()| file.write_all(address.as_bytes())).map_err(StoreError::write(&path))?;
        Ok(HouseLock(file))
    }

    /// Whether somebody serves these volumes.
    pub fn house(&self) -> Result<House> {
        let path = self.house_path();
        let file = open(&path)?;
        match file.try_lock() {
            Ok(()) => Ok(House::Empty(HouseLock(file))),
            Err(TryLockError::WouldBlock) => {
                let mut address = String::new();
                file.take(ADDRESS_BYTES).read_to_string(&mut address).map_err(StoreError::read(&path))?;
                Ok(House::Served(address))
            }
            Err(TryLockError::Error(error)) => Err(StoreError::write(&path)(error)),
        }
    }

    fn house_path(&self) -> PathBuf {
        self.volume2().join(HOUSE)
    }
}

fn open(path: &PathBuf) -> Result<File> {
    File::options().read(true).write(true).create(true).truncate(false).open(path).map_err(StoreError::write(path))
}
