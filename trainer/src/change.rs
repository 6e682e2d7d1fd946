//! How one picture is changed at random: mirrored, moved, drawn larger or smaller, lit otherwise.

use api::train::Augmentation;
use rand::RngExt;
use rand_pcg::Pcg64;

use crate::pixels::cubic;

/// Most by which a picture is drawn larger or smaller.
const MOST_ZOOM: f32 = 0.15;
/// Most by which brightness and contrast are changed.
const MOST_LIGHT: f32 = 0.2;

/// How one picture is changed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// Mirror left to right.
    pub flip: bool,
    /// Move right by this many pixels, then repeat the edge.
    pub right: f32,
    /// Move down by this many pixels, then repeat the edge.
    pub down: f32,
    /// Draw larger by this factor, around the centre.
    pub zoom: f32,
    /// Factor of all values.
    pub brightness: f32,
    /// Factor of the distance from the picture's mean.
    pub contrast: f32,
}

impl Default for Change {
    /// The picture as it is.
    fn default() -> Self {
        Self { flip: false, right: 0.0, down: 0.0, zoom: 1.0, brightness: 1.0, contrast: 1.0 }
    }
}

impl Change {
    /// A change as the augmentation allows it, for pictures of this size.
    pub fn random(augmentation: Augmentation, height: u32, width: u32, random: &mut Pcg64) -> Self {
        let whole = |random: &mut Pcg64, side: u32| {
            let most = (side / 10) as i32;
            random.random_range(-most..=most) as f32
        };
        let about = |random: &mut Pcg64, centre: f32, most: f32| random.random_range(centre - most..=centre + most);
        match augmentation {
            Augmentation::None => Self::default(),
            Augmentation::Flip => Self { flip: random.random_bool(0.5), ..Self::default() },
            Augmentation::FlipShift => {
                let (right, down) = (whole(random, width), whole(random, height));
                Self { flip: random.random_bool(0.5), right, down, ..Self::default() }
            }
            Augmentation::Full => Self {
                right: about(random, 0.0, width as f32 / 10.0),
                down: about(random, 0.0, height as f32 / 10.0),
                zoom: about(random, 1.0, MOST_ZOOM),
                brightness: about(random, 1.0, MOST_LIGHT),
                contrast: about(random, 1.0, MOST_LIGHT),
                flip: random.random_bool(0.5),
            },
        }
    }

    /// Appends the changed picture to `out`.
    ///
    /// # Shapes
    /// `picture`: `[height, width, 3]`
    pub fn apply(self, picture: &[u8], height: u32, width: u32, out: &mut Vec<u8>) {
        if self == Self::default() {
            out.extend_from_slice(picture);
            return;
        }
        let first = out.len();
        let n = width as usize * 3;
        let columns: Vec<Drawn> = (0..width).map(|x| Drawn::of(x, self.right, self.zoom, width)).collect();
        let across = |x: usize| if self.flip { width as usize - 1 - x } else { x };
        let mut lines = Vec::with_capacity(height as usize * n);
        for line in picture.chunks_exact(n) {
            for column in &columns {
                let pixels = column.from.map(|x| &line[3 * across(x)..][..3]);
                lines.extend([0, 1, 2].map(|channel| column.sum(pixels.map(|pixel| f32::from(pixel[channel])))));
            }
        }
        for y in 0..height {
            let row = Drawn::of(y, self.down, self.zoom, height);
            let lines = row.from.map(|y| &lines[y * n..][..n]);
            out.extend((0..n).map(|at| row.sum(lines.map(|line| line[at])).round() as u8));
        }
        self.light(&mut out[first..]);
    }

    fn light(self, values: &mut [u8]) {
        if (self.brightness, self.contrast) == (1.0, 1.0) {
            return;
        }
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / values.len().max(1) as f64;
        let mean = mean as f32;
        let table: Vec<u8> = (0..=255u8)
            .map(|v| (((f32::from(v) - mean) * self.contrast + mean) * self.brightness).round().clamp(0.0, 255.0) as u8)
            .collect();
        for value in values {
            *value = table[usize::from(*value)];
        }
    }
}

/// The pixels of a line that a place between them is drawn from, and how much of each: by the kernel that brings pictures to
/// a network's size, so that a changed picture is as sharp as one that is not.
struct Drawn {
    from: [usize; 4],
    shares: [f32; 4],
}

impl Drawn {
    /// Pixel `at` of a moved and zoomed line.
    fn of(at: u32, shift: f32, zoom: f32, side: u32) -> Self {
        let last = side as f32 - 1.0;
        let place = ((at as f32 - shift - last / 2.0) / zoom + last / 2.0).clamp(0.0, last);
        let around = [-1.0, 0.0, 1.0, 2.0].map(|step| place.floor() + step);
        Self {
            from: around.map(|pixel| pixel.clamp(0.0, last) as usize),
            shares: around.map(|pixel| cubic(f64::from(place - pixel)) as f32),
        }
    }

    fn sum(&self, values: [f32; 4]) -> f32 {
        values.iter().zip(self.shares).map(|(value, share)| value * share).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, generator};

    fn most(changes: &[Change], of: impl Fn(&Change) -> f32) -> f32 {
        changes.iter().map(of).fold(f32::MIN, f32::max)
    }

    /// A picture of 3 × 2 whose red value counts its pixels.
    const PICTURE: [u8; 18] = [0, 9, 9, 1, 9, 9, 2, 9, 9, 3, 9, 9, 4, 9, 9, 5, 9, 9];

    #[track_caller]
    fn reds(change: Change) -> Vec<u8> {
        let mut out = vec![];
        change.apply(&PICTURE, 2, 3, &mut out);
        assert!(out.chunks(3).all(|p| p[1..] == [9, 9]), "channels stay together");
        out.chunks(3).map(|p| p[0]).collect()
    }

    #[test]
    fn changes_mirror_and_shift_and_repeat_the_edge() {
        assert_eq!(reds(Change::default()), [0, 1, 2, 3, 4, 5]);
        assert_eq!(reds(Change { flip: true, ..Change::default() }), [2, 1, 0, 5, 4, 3]);
        assert_eq!(reds(Change { right: 1.0, ..Change::default() }), [0, 0, 1, 3, 3, 4]);
        assert_eq!(reds(Change { right: -2.0, ..Change::default() }), [2, 2, 2, 5, 5, 5]);
        assert_eq!(reds(Change { down: 1.0, ..Change::default() }), [0, 1, 2, 0, 1, 2]);
        assert_eq!(reds(Change { flip: true, right: 1.0, down: -1.0, ..Change::default() }), [5, 5, 4, 5, 5, 4]);
    }

    #[test]
    fn random_changes_stay_within_a_tenth_of_the_side() {
        let mut random = generator(1, Purpose::Augmentation, 1);
        let changes: Vec<_> = (0..500).map(|_| Change::random(Augmentation::FlipShift, 32, 57, &mut random)).collect();
        assert_eq!(most(&changes, |c| c.right), 5.0);
        assert_eq!(most(&changes, |c| -c.right), 5.0);
        assert_eq!(most(&changes, |c| c.down.abs()), 3.0);
        let flips = changes.iter().filter(|c| c.flip).count();
        assert!((200..300).contains(&flips), "{flips} of 500 were mirrored");
    }

    #[test]
    fn zoom_keeps_the_centre_and_light_keeps_to_the_range() {
        let reds = |change: Change, picture: &[u8]| {
            let mut out = vec![];
            change.apply(picture, 1, 5, &mut out);
            out.chunks(3).map(|p| p[0]).collect::<Vec<_>>()
        };
        let ramp: Vec<u8> = [0, 50, 100, 150, 200].iter().flat_map(|&v| [v; 3]).collect();
        assert_eq!(reds(Change { zoom: 2.0, ..Change::default() }, &ramp), [50, 75, 100, 125, 150]);
        assert_eq!(reds(Change { right: 0.5, ..Change::default() }, &ramp), [0, 22, 75, 125, 178]);
        assert_eq!(reds(Change { brightness: 1.5, ..Change::default() }, &ramp), [0, 75, 150, 225, 255]);
        assert_eq!(reds(Change { contrast: 0.5, ..Change::default() }, &ramp), [50, 75, 100, 125, 150]);
    }
}
