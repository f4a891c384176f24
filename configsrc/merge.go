package configsrc

import (
	"maps"
	"slices"
	"strings"
)

// Merge lays layers over each other, the lowest first. Each layer has passed
// [Values.Check]; none is changed. The result passes it too, but for the number
// of keys and the size of the texts, which add up.
//
//   - A key of a higher layer replaces the same key of a lower one.
//   - A list is one value. When a higher layer has anything at a list (elements,
//     an empty list, a plain value), every element of the lower layer's list
//     goes, and a list replaces a plain value just so. For lists in lists the
//     outermost one counts: a[0].b[1] belongs to the list a.
//   - An empty section gives way to keys below it, wherever they come from, and
//     stays otherwise.
//   - A value or list in one layer and a section in another, under one name (a
//     and a.b), have no order that loses nothing: that is an [*InvalidError],
//     which names all such pairs and their origins. An empty section counts as
//     a section.
//
// Each value keeps in Shadows what it hides, the nearest layer first: of one
// layer first the values, by key, and then their own shadows. What a list hides
// hangs on the first key of that list.
//
// Merge is associative, errors included: merging some of the layers first
// changes nothing.
//
// Where only one layer has keys, it is the result itself.
func Merge(layers ...Values) (Values, error) {
	layers = slices.DeleteFunc(slices.Clone(layers), func(layer Values) bool { return len(layer) == 0 })
	if len(layers) == 1 {
		return layers[0], nil
	}
	most := 0
	for _, layer := range layers {
		most = max(most, len(layer))
	}
	m := merged{values: make(Values, most), winners: make(map[string]string, most)}
	for _, layer := range slices.Backward(layers) {
		m.under(layer)
	}
	m.sections()
	if err := m.problems.err(byKey); err != nil {
		return nil, err
	}
	return m.values, nil
}

type merged struct {
	values Values
	// winners has the first key of every unit in values, by the unit's name. A
	// unit is what is replaced whole: a list, or a value outside all lists.
	winners  map[string]string
	problems problems
}

// under lays a layer under what there is.
func (m *merged) under(layer Values) {
	lists := make(map[string][]string)
	for key := range layer {
		if root, ok := ListRoot(key); ok {
			lists[root] = append(lists[root], key)
		} else {
			m.unit(key, []string{key}, layer)
		}
	}
	for root, keys := range lists {
		slices.SortFunc(keys, CompareKeys)
		m.unit(root, keys, layer)
	}
}

// unit adds the unit of a layer, or hangs it on the one that hides it.
func (m *merged) unit(name string, keys []string, layer Values) {
	winner, hidden := m.winners[name]
	if !hidden {
		m.winners[name] = keys[0]
		for _, key := range keys {
			value := layer[key]
			value.Shadows = slices.Clip(value.Shadows) // so that appending leaves the layer's own alone
			m.values[key] = value
		}
		return
	}
	top, below := m.values[winner], layer[keys[0]]
	switch upper, lower := isSection(winner, name, top), isSection(keys[0], name, below); {
	case upper && !lower:
		m.conflict(keys[0], below.Origin, winner, top.Origin)
		return
	case lower && !upper:
		m.conflict(winner, top.Origin, keys[0], below.Origin)
		return
	}
	for _, key := range keys {
		top.Shadows = append(top.Shadows, Shadow{Key: key, Raw: layer[key].Raw, Origin: layer[key].Origin})
	}
	for _, key := range keys {
		top.Shadows = append(top.Shadows, layer[key].Shadows...)
	}
	m.values[winner] = top
}

// isSection tells an empty section from any other unit, given the unit's first
// key and its name. An empty section in a list is an element as any other.
func isSection(key, name string, v Value) bool { return key == name && v.Raw == EmptySection }

// sections settles what stands above other units: an empty section goes, and
// anything else is a conflict.
func (m *merged) sections() {
	below := make(map[string]string) // by the name above: the first unit below it
	for name := range m.winners {
		for above := parent(name); above != ""; above = parent(above) {
			if _, ok := m.winners[above]; !ok {
				continue
			}
			if first, ok := below[above]; !ok || CompareKeys(name, first) < 0 {
				below[above] = name
			}
		}
	}
	for _, above := range slices.SortedFunc(maps.Keys(below), CompareKeys) {
		key, other := m.winners[above], m.winners[below[above]]
		if top := m.values[key]; isSection(key, above, top) {
			delete(m.values, key)
		} else {
			m.conflict(key, top.Origin, other, m.values[other].Origin)
		}
	}
}

// parent is the name of the section that name stands in; "" for the root.
func parent(name string) string {
	return name[:max(strings.LastIndexByte(name, '.'), 0)]
}

func (m *merged) conflict(key string, origin Origin, section string, sectionOrigin Origin) {
	kind := "value"
	if _, ok := ListRoot(key); ok {
		kind = "list"
	}
	m.problems.add(key, origin, "stands for a %s here, and %s for a section of the same name: neither can replace the other",
		kind, place(section, sectionOrigin))
}
