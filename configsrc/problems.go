package configsrc

import (
	"cmp"
	"fmt"
	"slices"
)

// maxProblems is how many problems an InvalidError of this package lists. Who
// has to fix more sees the rest after these.
const maxProblems = 20

// problems collects what is wrong with a content. It keeps a bounded number,
// since a hostile document may have millions, and counts them all.
type problems struct {
	kept  []Problem
	total int
}

func (p *problems) add(key string, origin Origin, format string, args ...any) {
	p.total++
	if len(p.kept) < 50*maxProblems {
		p.kept = append(p.kept, Problem{Key: shownKey(key), Origin: origin, Reason: fmt.Sprintf(format, args...)})
	}
}

func (p *problems) addAll(more problems) {
	p.total += more.total
	p.kept = append(p.kept, more.kept...)
}

func byKey(a, b Problem) int {
	return cmp.Or(CompareKeys(a.Key, b.Key), byLine(a, b))
}

func byLine(a, b Problem) int {
	return cmp.Or(cmp.Compare(a.Origin.Line, b.Origin.Line), CompareKeys(a.Key, b.Key), cmp.Compare(a.Reason, b.Reason))
}

// err is nil without problems, else an *InvalidError with the first of them.
func (p *problems) err(order func(a, b Problem) int) error {
	if p.total == 0 {
		return nil
	}
	list := slices.SortedStableFunc(slices.Values(p.kept), order)
	if p.total > maxProblems {
		list = append(list[:maxProblems:maxProblems], Problem{Reason: fmt.Sprintf("and %d more problems", p.total-maxProblems)})
	}
	return &InvalidError{Problems: list}
}
