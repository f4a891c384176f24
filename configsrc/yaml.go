package configsrc

import (
	"bytes"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// yaml reads a YAML document. The library parses; walking its nodes is done
// here, for the lines, the duplicates and the bound on aliases.
func (w *walker) yaml(data []byte) {
	// The parser builds every node before the first can be looked at, a
	// hundred bytes and more for each, and a node costs a document no more
	// than one of these.
	separators := bytes.Count(data, []byte{'\n'}) + bytes.Count(data, []byte{','})
	if most := separatorsPerKey * w.limits.Keys; separators > most {
		w.fail(0, "the document has more line ends and commas than the limit of %d", most)
		return
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document yaml.Node
	if err := decoder.Decode(&document); err != nil {
		if !errors.Is(err, io.EOF) {
			w.yamlSyntax(err, data)
		}
		return
	}
	var second yaml.Node
	switch err := decoder.Decode(&second); {
	case err == nil:
		w.fail(second.Line, "a second YAML document starts here: only one is read")
		return
	case !errors.Is(err, io.EOF):
		w.yamlSyntax(err, data)
		return
	}
	y := &yamlTree{
		walker: w,
		open:   make(map[*yaml.Node]bool),
		budget: aliasBudget(w.limits),
	}
	if len(document.Content) == 0 {
		return
	}
	root := document.Content[0]
	switch {
	case root.Kind == yaml.MappingNode:
		y.mapping(root, root.Line)
	case root.Kind == yaml.ScalarNode && root.Value == "" && root.ShortTag() == "!!null":
	default:
		w.fail(root.Line, rootReason)
	}
}

// separatorsPerKey allows for comments, and for texts of many lines.
const separatorsPerKey = 20

// yamlSyntax says what the parser found. Its messages are fixed texts but for
// one that quotes the document.
func (w *walker) yamlSyntax(err error, data []byte) {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 1
	if rest, ok := strings.CutPrefix(text, "line "); ok {
		number, after, _ := strings.Cut(rest, ": ")
		if n, err := strconv.Atoi(number); err == nil {
			line, text = n, after
		}
	}
	if at := tabIndent(data, line); at > 0 {
		w.fail(at, "not YAML: a tab stands in the indentation, and YAML indents by spaces only")
		return
	}
	switch {
	case strings.HasPrefix(text, "unknown anchor"):
		text = "an alias (*name) has no anchor (&name) before it; put text that starts with * into quotes"
	case strings.HasPrefix(text, "exceeded max depth"):
		w.fail(line, depthReason, w.limits.Depth)
		return
	case strings.HasPrefix(text, "did not find "), strings.HasPrefix(text, "found "),
		strings.HasPrefix(text, "could not find "), strings.HasPrefix(text, "mapping values "),
		strings.HasPrefix(text, "block sequence "), strings.HasPrefix(text, "control characters "):
	default:
		text = "syntax error"
	}
	w.fail(line, "not YAML: %s", text)
}

// tabIndent is the number of the line at or next to line that is indented by a
// tab; 0 when there is none. The parser's line is off by one at times.
func tabIndent(data []byte, line int) int {
	n := 0
	for text := range bytes.Lines(data) {
		n++
		indent := text[:len(text)-len(bytes.TrimLeft(text, " \t"))]
		if n >= line-1 && bytes.IndexByte(indent, '\t') >= 0 {
			return n
		}
		if n > line {
			break
		}
	}
	return 0
}

type yamlTree struct {
	*walker
	// open are the anchored nodes that the path leads through.
	open map[*yaml.Node]bool
	// aliases is how many aliases the path leads through.
	aliases int
	// budget is how many more nodes may be visited by way of aliases. Without
	// it nine short lines stand for a billion nodes.
	budget int
}

// spent counts a visit. It reports false when the aliases repeat too much.
func (y *yamlTree) spent(line int) bool {
	if y.aliases > 0 {
		y.budget--
	}
	if y.budget < 0 && !y.full {
		y.refuse(line, "the aliases repeat too much: together they stand for more than %d nodes", aliasBudget(y.limits))
	}
	return !y.full
}

// aliasBudget lets every key there may be come from an alias.
func aliasBudget(limits Limits) int { return 100 + 4*limits.Keys }

// inside walks an anchored node. It reports false for one that contains itself.
func (y *yamlTree) inside(node *yaml.Node, walk func()) bool {
	if node.Anchor == "" {
		walk()
		return true
	}
	if y.open[node] {
		return false
	}
	y.open[node] = true
	walk()
	delete(y.open, node)
	return true
}

const insideItself = "the alias stands inside its own anchor"

func (y *yamlTree) value(node *yaml.Node, line int, inList bool) {
	if !y.spent(line) {
		return
	}
	finite := true
	switch node.Kind {
	case yaml.AliasNode:
		y.aliases++
		y.value(node.Alias, line, inList)
		y.aliases--
	case yaml.MappingNode:
		finite = y.inside(node, func() { y.mapping(node, line) })
	case yaml.SequenceNode:
		finite = y.inside(node, func() { y.sequence(node, line) })
	case yaml.ScalarNode:
		y.scalar(node, line, inList)
	}
	if !finite {
		y.invalid(line, insideItself)
	}
}

func (y *yamlTree) sequence(node *yaml.Node, line int) {
	if len(node.Content) == 0 {
		y.put(EmptyList, line)
	}
	for i, element := range node.Content {
		if y.full {
			return
		}
		if mark, ok := y.enterIndex(i, element.Line); ok {
			y.value(element, element.Line, true)
			y.leave(mark)
		}
	}
}

func (y *yamlTree) mapping(node *yaml.Node, line int) {
	y.section(line, func() {
		taken := make(map[string]bool, len(node.Content)/2)
		for _, from := range y.pairs(node, taken) {
			y.merge(from, true, taken)
		}
	})
}

// merge adds the pairs that a merge key (<<) brings: of a mapping, or of a list
// of them. A name that is taken stays as it is.
func (y *yamlTree) merge(from *yaml.Node, list bool, taken map[string]bool) {
	if !y.spent(from.Line) {
		return
	}
	finite := true
	switch {
	case from.Kind == yaml.AliasNode:
		y.aliases++
		y.merge(from.Alias, list, taken)
		y.aliases--
	case from.Kind == yaml.MappingNode:
		finite = y.inside(from, func() {
			for _, inner := range y.pairs(from, taken) {
				y.merge(inner, true, taken)
			}
		})
	case from.Kind == yaml.SequenceNode && list:
		finite = y.inside(from, func() {
			for _, element := range from.Content {
				y.merge(element, false, taken)
			}
		})
	default:
		y.fail(from.Line, "a merge key (<<) takes a mapping or a list of mappings")
	}
	if !finite {
		y.fail(from.Line, insideItself)
	}
}

// pairs walks the pairs of one mapping whose names are not taken yet, takes
// them, and returns what merge keys in it lead to.
func (y *yamlTree) pairs(node *yaml.Node, taken map[string]bool) (merges []*yaml.Node) {
	own := make(map[string]int, len(node.Content)/2)
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		if !y.spent(key.Line) {
			return nil
		}
		if key.Kind == yaml.ScalarNode && key.ShortTag() == "!!merge" {
			if len(merges) > 0 {
				y.fail(key.Line, "duplicate merge key (<<): write one with a list")
			}
			merges = append(merges, value)
			continue
		}
		line := key.Line
		if key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		if key.Kind != yaml.ScalarNode {
			y.fail(line, "a key must be text, not a list or a mapping")
			continue
		}
		name := key.Value
		mark, ok := y.enter(name, line)
		if !ok {
			continue
		}
		switch first, again := own[name]; {
		case again && y.aliases == 0: // else it is told where the anchor stands
			y.duplicate(first, line)
		case !again && !taken[name]:
			taken[name] = true
			y.value(value, line, false)
		}
		if _, again := own[name]; !again {
			own[name] = line
		}
		y.leave(mark)
	}
	return merges
}

const outOfRangeYAML = outOfRange + "; if it is text, put it into quotes"

func (y *yamlTree) scalar(node *yaml.Node, line int, inList bool) {
	const written = yaml.TaggedStyle | yaml.SingleQuotedStyle | yaml.DoubleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle
	tagged := node.Style&yaml.TaggedStyle != 0
	text := node.Value
	tag := node.ShortTag()
	switch tag {
	case "!!null":
		switch text {
		case "", "~", "null", "Null", "NULL":
			if inList {
				y.put(nil, line)
			}
			return
		}
	case "!!bool":
		switch text {
		case "true", "True", "TRUE":
			y.put(true, line)
			return
		case "false", "False", "FALSE":
			y.put(false, line)
			return
		}
	case "!!int":
		if n, err := yamlInteger(text); err == nil {
			y.put(n, line)
			return
		}
	case "!!float":
		y.float(text, tagged, line)
		return
	default:
		if node.Style&written == 0 && numberTooLarge(text) {
			y.invalid(line, outOfRangeYAML)
			return
		}
		y.put(text, line)
		return
	}
	y.invalid(line, "the value is not of the type that its tag %s names", tag)
}

func (y *yamlTree) float(text string, tagged bool, line int) {
	text = strings.ReplaceAll(text, "_", "")
	switch strings.ToLower(strings.TrimLeft(text, "+-")) {
	case ".inf", ".nan":
		y.invalid(line, notFinite)
		return
	}
	f, err := strconv.ParseFloat(text, 64)
	if n, intErr := yamlInteger(text); intErr == nil { // a tag makes it a float
		switch n := n.(type) {
		case int64:
			f, err = float64(n), nil
		case uint64:
			f, err = float64(n), nil
		}
	} else if !tagged && math.Abs(f) >= math.MaxInt64 && !strings.ContainsAny(text, ".eE") {
		err = strconv.ErrRange // the parser makes a float of an integer that is too large
	}
	switch {
	case errors.Is(err, strconv.ErrRange):
		y.invalid(line, outOfRangeYAML)
	case err != nil || math.IsNaN(f) || math.IsInf(f, 0):
		y.invalid(line, "the value is not of the type that its tag !!float names")
	default:
		y.put(f, line)
	}
}

// yamlInteger reads an integer as the parser does: with underscores, and by
// its prefix binary, octal (0o, and 0 alone as in YAML 1.1) or hexadecimal.
func yamlInteger(text string) (any, error) {
	plain := strings.ReplaceAll(text, "_", "")
	if i, err := strconv.ParseInt(plain, 0, 64); err == nil {
		return i, nil
	}
	u, err := strconv.ParseUint(plain, 0, 64)
	return u, err
}

// numberTooLarge tells a number from a text where the parser does not: it takes
// a number that no Go type holds for text.
func numberTooLarge(text string) bool {
	if text == "" || strings.IndexByte("+-.0123456789", text[0]) < 0 {
		return false
	}
	plain := strings.ReplaceAll(text, "_", "")
	_, intErr := strconv.ParseInt(plain, 0, 64)
	_, floatErr := strconv.ParseFloat(plain, 64)
	return errors.Is(intErr, strconv.ErrRange) || errors.Is(floatErr, strconv.ErrRange)
}
