//! Which layers a family trains.

use api::train::{Family, Settings};

use crate::model::{Layer, Network};

/// How much faster than the rest a new head behind a pretrained network learns.
pub const HEAD_PACE: f32 = 5.0;

/// The layers of a family that begins with its input, first to last.
///
/// # Shapes
/// `input`: per picture, pixels for networks from scratch and features for heads
pub fn network(settings: &Settings, input: &[i64], n_classes: i64) -> Network {
    let mut layers = match settings.family {
        Family::Cnn => cnn(settings.input_size),
        Family::SeparableCnn => separable_cnn(settings.input_size),
        Family::Mlp => vec![Layer::Dense { units: i64::from(settings.hidden_units.max(1)) }, Layer::Relu],
        Family::Linear | Family::FineTune => vec![],
    };
    layers.extend(head(settings, n_classes));
    Network::new("layer", input, &layers)
}

/// A pretrained network's last blocks and a new head behind them.
pub fn with_head(body: Network, settings: &Settings, n_classes: i64) -> Network {
    body.then("head", &head(settings, n_classes), HEAD_PACE)
}

fn head(settings: &Settings, n_classes: i64) -> Vec<Layer> {
    let dropout = (settings.dropout > 0.0).then_some(Layer::Dropout { rate: settings.dropout });
    dropout.into_iter().chain([Layer::Dense { units: n_classes }]).collect()
}

/// Convolutions with pooling between them until a side of 8 is left, and a hidden layer.
fn cnn(input_size: u32) -> Vec<Layer> {
    let mut layers = vec![];
    let mut side = input_size;
    for filters in [32, 64].into_iter().chain(std::iter::repeat(64)) {
        // Pooling first leaves the ReLU a quarter of the values, and the same ones come out.
        layers.extend([Layer::Conv { filters, kernel: 3, stride: 1 }, Layer::MaxPool, Layer::Relu]);
        side /= 2;
        if side <= 8 && layers.len() >= 6 {
            break;
        }
    }
    layers.extend([Layer::Flatten, Layer::Dense { units: 128 }, Layer::Relu]);
    layers
}

/// Depthwise and pointwise convolutions by turns, with residuals, halving the side until 8 or less is left.
///
/// # Source
/// Howard et al., "MobileNets", 2017; Sandler et al., "MobileNetV2", 2018 (residuals)
fn separable_cnn(input_size: u32) -> Vec<Layer> {
    let separable = |filters, stride| {
        [
            Layer::Depthwise { kernel: 3, stride },
            Layer::Relu,
            Layer::Conv { filters, kernel: 1, stride: 1 },
            Layer::Relu,
        ]
    };
    let mut side = input_size.div_ceil(2);
    let mut layers = vec![Layer::Conv { filters: 32, kernel: 3, stride: 2 }, Layer::Relu];
    layers.extend(separable(64, 1));
    for filters in [128].into_iter().chain(std::iter::repeat(128)) {
        if side <= 8 && filters == 128 && layers.len() > 6 {
            break;
        }
        layers.extend(separable(filters, 2));
        side = side.div_ceil(2);
        let block = separable(filters, 1);
        layers.extend(block);
        layers.push(Layer::Add { back: block.len() });
    }
    layers.push(Layer::GlobalAveragePool);
    layers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_from_scratch_can_be_built_for_every_allowed_input_size() {
        for family in [Family::Cnn, Family::SeparableCnn] {
            for input_size in 8..=512 {
                let settings = Settings { input_size, ..Settings::defaults(family, 32) };
                let side = i64::from(input_size);
                let network = network(&settings, &[3, side, side], 4);
                assert_eq!(network.n_classes(), 4);
                let n = network.n_weights();
                assert!(n < 1_200_000, "{family:?} of {input_size} pixels needs {n} weights");
            }
        }
    }

    #[test]
    fn the_separable_network_is_less_than_half_of_the_plain_ones_work() {
        let work = |family| {
            let settings = Settings { input_size: 64, ..Settings::defaults(family, 64) };
            network(&settings, &[3, 64, 64], 10).multiply_adds()
        };
        let (separable, plain) = (work(Family::SeparableCnn), work(Family::Cnn));
        assert!(2 * separable < plain, "{separable} against {plain}");
    }
}
