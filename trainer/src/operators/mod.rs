//! Operations of our own in training graphs, which ONNX Runtime calls as if they were its own: those that it has none for,
//! or slow ones.
//!
//! All values are f32.

mod convolution;
mod depthwise;
mod max_pool;
mod relu;
mod window;

use std::{
    ops::Range,
    sync::{Mutex, MutexGuard},
};

use ort::{
    Error, Result,
    operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorDomain, OperatorInput, OperatorOutput},
    value::{TensorElementType, ValueRef, ValueRefMut},
};

pub use self::{
    convolution::{CONVOLUTION_INPUT_GRADIENT, CONVOLUTION_WEIGHT_GRADIENT},
    depthwise::{DEPTHWISE, DEPTHWISE_INPUT_GRADIENT, DEPTHWISE_WEIGHT_GRADIENT},
    max_pool::{MAX_POOL, MAX_POOL_GRADIENT},
    relu::{MOST, RELU_GRADIENT},
    window::{KERNEL, PADDING, SIDES, STRIDE},
};

/// The domain of our operations.
pub const DOMAIN: &str = "fovea";

/// Parts that an operation is cut into, for as many threads as there may be. What they come to does not depend on who
/// computes which.
const PARTS: usize = 16;

/// The operations, for one session.
pub fn domain() -> Result<OperatorDomain> {
    OperatorDomain::new(DOMAIN)?
        .add(Operation::new(CONVOLUTION_WEIGHT_GRADIENT, 2, 2, convolution::WeightGradient::new))?
        .add(Operation::new(CONVOLUTION_INPUT_GRADIENT, 2, 1, convolution::InputGradient::new))?
        .add(Operation::new(DEPTHWISE, 3, 1, depthwise::Forward::new))?
        .add(Operation::new(DEPTHWISE_INPUT_GRADIENT, 2, 1, depthwise::InputGradient::new))?
        .add(Operation::new(DEPTHWISE_WEIGHT_GRADIENT, 2, 2, depthwise::WeightGradient::new))?
        .add(Operation::new(MAX_POOL, 1, 1, |_| Ok(max_pool::forward)))?
        .add(Operation::new(MAX_POOL_GRADIENT, 2, 1, |_| Ok(max_pool::gradient)))?
        .add(Operation::new(RELU_GRADIENT, 2, 1, relu::Gradient::new))
}

/// One operation, as the engine wants it described.
struct Operation<K> {
    name: &'static str,
    inputs: usize,
    outputs: usize,
    kernel: fn(&KernelContext) -> Result<K>,
}

impl<K> Operation<K> {
    fn new(name: &'static str, inputs: usize, outputs: usize, kernel: fn(&KernelContext) -> Result<K>) -> Self {
        Self { name, inputs, outputs, kernel }
    }
}

impl<K: Kernel + 'static> Operator for Operation<K> {
    type Kernel<'attr> = K;

    fn name(&self) -> &str {
        self.name
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        (0..self.inputs).map(|_| OperatorInput::required(TensorElementType::Float32))
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        (0..self.outputs).map(|_| OperatorOutput::required(TensorElementType::Float32))
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> Result<K> {
        (self.kernel)(context)
    }
}

fn value(context: &ComputeContext, at: usize) -> Result<ValueRef<'_>> {
    context.input(at)?.ok_or_else(|| Error::new("an input is missing"))
}

fn output<'c>(context: &'c ComputeContext, at: usize, dims: &[i64]) -> Result<ValueRefMut<'c>> {
    context.output(at, dims.to_vec())?.ok_or_else(|| Error::new("an output is missing"))
}

/// The sizes of a value with four axes.
fn four(dims: &[i64]) -> Result<[usize; 4]> {
    match dims {
        &[a, b, c, d] if a > 0 && b > 0 && c > 0 && d > 0 => Ok([a, b, c, d].map(|size| size as usize)),
        _ => Err(Error::new(format!("four axes are needed, none of them empty, and these are {dims:?}"))),
    }
}

/// The sizes of two values that are of the same pictures.
fn of_the_same(one: &[i64], other: &[i64]) -> Result<[[usize; 4]; 2]> {
    match [four(one)?, four(other)?] {
        sizes if sizes[0][0] == sizes[1][0] => Ok(sizes),
        _ => Err(Error::new(format!("values of shape {one:?} and {other:?} are not of the same pictures"))),
    }
}

/// Fills an output with several threads, each of which gets some whole items of this many values, and the number of the
/// first of them.
fn fill(
    context: &ComputeContext,
    output: &mut [f32],
    item: usize,
    work: impl Fn(usize, &mut [f32]) + Send + Sync,
) -> Result<()> {
    fill_with(&Parts::<()>::default(), context, output, item, |(), first, output| work(first, output))
}

/// The same, with a working memory for each part.
fn fill_with<T: Send>(
    memory: &Parts<T>,
    context: &ComputeContext,
    output: &mut [f32],
    item: usize,
    work: impl Fn(&mut T, usize, &mut [f32]) + Send + Sync,
) -> Result<()> {
    let some = each(output.len() / item);
    let parts: Vec<_> = output.chunks_mut(some * item).map(Mutex::new).collect();
    context.par_for(parts.len(), 0, |at| work(&mut memory.part(at), at * some, &mut locked(&parts[at])))
}

/// What the parts of an operation work in. It is kept from step to step, for its memory's sake.
struct Parts<T>([Mutex<T>; PARTS]);

impl<T: Default> Default for Parts<T> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

impl<T: Send> Parts<T> {
    fn part(&self, at: usize) -> MutexGuard<'_, T> {
        locked(&self.0[at])
    }

    /// Has several threads work on some of this many items each, and adds up what the parts come to: in the first of them.
    fn sum(
        &self,
        context: &ComputeContext,
        items: usize,
        work: impl Fn(&mut T, Range<usize>) + Send + Sync,
        add: impl Fn(&mut T, &T),
    ) -> Result<MutexGuard<'_, T>> {
        let some = each(items);
        let parts = items.div_ceil(some);
        context.par_for(parts, 0, |at| work(&mut self.part(at), at * some..items.min((at + 1) * some)))?;
        let mut sum = self.part(0);
        (1..parts).for_each(|at| add(&mut sum, &self.part(at)));
        Ok(sum)
    }
}

/// How many of so many items a part has, the last one perhaps fewer.
fn each(items: usize) -> usize {
    items.div_ceil(PARTS).max(1)
}

/// Of what several threads each have a part of.
fn locked<T>(part: &Mutex<T>) -> MutexGuard<'_, T> {
    part.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
