//! What networks say of pictures, before it is calibrated.

use crate::familiarity;

/// What a network says of some pictures.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answers {
    /// `[pictures, n_classes]`, at temperature 1
    pub logits: Vec<f32>,
    /// `[pictures]`, see [`Subspace::strangeness`](familiarity::Subspace::strangeness); 0 where nothing is known of it.
    pub strangeness: Vec<f32>,
}

impl Answers {
    /// Adds those of more pictures.
    pub fn extend(&mut self, more: &Self) {
        self.logits.extend_from_slice(&more.logits);
        self.strangeness.extend_from_slice(&more.strangeness);
    }

    /// Those of the last so many pictures.
    pub fn last(&self, pictures: usize) -> Self {
        let first = self.strangeness.len() - pictures;
        let n_classes = self.logits.len() / self.strangeness.len().max(1);
        Self { logits: self.logits[first * n_classes..].to_vec(), strangeness: self.strangeness[first..].to_vec() }
    }

    /// The logits, made smaller where a picture is stranger than usual, as the published network does.
    ///
    /// # Shapes
    /// result: `[pictures, n_classes]`
    pub fn dimmed(&self, usual: Option<f32>) -> Vec<f32> {
        let Some(usual) = usual else { return self.logits.clone() };
        let n_classes = self.logits.len() / self.strangeness.len().max(1);
        let rows = self.logits.chunks_exact(n_classes.max(1)).zip(&self.strangeness);
        rows.flat_map(|(row, &strange)| row.iter().map(move |logit| logit * familiarity::factor(strange, usual)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_pictures_keep_their_rows_and_only_strange_ones_are_dimmed() {
        let mut answers = Answers { logits: vec![1.0, 2.0, 3.0, 4.0], strangeness: vec![1.0, 8.0] };
        answers.extend(&Answers { logits: vec![5.0, 6.0], strangeness: vec![0.0] });
        assert_eq!(answers.last(1), Answers { logits: vec![5.0, 6.0], strangeness: vec![0.0] });
        assert_eq!(answers.last(0), Answers::default());
        assert_eq!(answers.dimmed(Some(4.0)), [1.0, 2.0, 1.5, 2.0, 5.0, 6.0]);
        assert_eq!(answers.dimmed(None), answers.logits);
        assert!(Answers::default().dimmed(Some(1.0)).is_empty());
    }
}
