//! How many pictures each class has.

use api::dataset::ClassCount;

use super::{Cell, Drawing, Figure, Table, bars::Bars};
use crate::words;

/// Most classes that are drawn; the table has them all.
const DRAWN: usize = 60;

/// Pictures by class and split.
pub fn classes(classes: &[ClassCount]) -> Figure {
    let mut table = Table::new(&["Class", "Train", "Validation", "Test", "All"]);
    for class in classes {
        let counts = [class.train, class.validation, class.test, class.total()];
        table.rows.push([Cell::text(&class.name)].into_iter().chain(counts.map(Cell::count)).collect());
    }
    let rows: Vec<_> = classes
        .iter()
        .take(DRAWN)
        .map(|class| (class.name.as_str(), [class.train, class.validation, class.test]))
        .collect();
    let title = "Pictures by class";
    let bars = Bars::new("classes", title, description(classes), ["train", "validation", "test"], &rows);
    Figure { id: "classes", title: title.into(), drawing: Some(Drawing::Bars(bars)), table, has_own_table: true }
}

fn description(classes: &[ClassCount]) -> String {
    let by_size = |class: &&ClassCount| class.total();
    match (classes.iter().max_by_key(by_size), classes.iter().min_by_key(by_size)) {
        (Some(most), Some(least)) if most.total() > least.total() => format!(
            "{} classes; {} has the most pictures with {}, {} the fewest with {}",
            classes.len(),
            most.name,
            most.total(),
            least.name,
            least.total()
        ),
        (Some(any), _) => {
            format!("{} classes of {} each", classes.len(), words::count(any.total(), "picture", "pictures"))
        }
        _ => "no classes".into(),
    }
}

/// What is to be said of classes of very different sizes, if they are.
pub fn imbalance(classes: &[ClassCount]) -> Option<String> {
    let most = classes.iter().max_by_key(|class| class.train)?;
    let least = classes.iter().min_by_key(|class| class.train)?;
    (most.train > 3 * least.train.max(1)).then(|| {
        format!(
            "{} has {} training pictures and {} only {}: a classifier leans towards what it has seen more often. \
             More pictures of the rare classes help more than any setting.",
            most.name, most.train, least.name, least.train
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(name: &str, train: u64, test: u64) -> ClassCount {
        ClassCount { name: name.into(), train, validation: 1, test }
    }

    #[test]
    fn the_figure_names_extremes_and_its_table_has_every_count() {
        let figure = classes(&[class("a", 7, 2), class("b", 1, 0)]);
        let svg = figure.inline().expect("it renders");
        assert!(svg.contains("2 classes; a has the most pictures with 10, b the fewest with 2"), "{svg}");
        assert_eq!(figure.table.csv(), "Class,Train,Validation,Test,All\r\na,7,1,2,10\r\nb,1,1,0,2\r\n");
    }

    #[test]
    fn only_classes_of_very_different_sizes_are_warned_of() {
        assert_eq!(imbalance(&[class("a", 30, 0), class("b", 10, 0)]), None);
        assert!(imbalance(&[class("a", 31, 0), class("b", 10, 0)]).is_some_and(|said| said.contains("b only 10")));
        assert_eq!(imbalance(&[]), None);
    }
}
