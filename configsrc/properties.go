package configsrc

import (
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// properties reads the syntax of java.util.Properties, in UTF-8. The libraries
// for it let the last of duplicate keys win and tell no lines.
func (w *walker) properties(data []byte) {
	p := propertiesText{text: string(data), line: 1}
	for !w.full && p.nextLine() {
		line := p.line
		key, problem := p.token(true)
		if problem == "" {
			p.separator()
			var value string
			if value, problem = p.token(false); problem == "" {
				w.property(key, value, line)
				continue
			}
		}
		w.problems.add(key, w.at(line), "%s", problem)
		p.restOfLine()
	}
}

func (w *walker) property(key, value string, line int) {
	// The key is a whole path here. Its depth is checked with the values.
	mark, ok := w.enter(key, line)
	if !ok {
		return
	}
	w.put(value, line)
	w.leave(mark)
}

type propertiesText struct {
	text string
	pos  int
	line int
}

const propertiesSpace = " \t\f"

// nextLine goes to the first character of the next line that is neither blank
// nor a comment.
func (p *propertiesText) nextLine() bool {
	for p.pos < len(p.text) {
		switch c := p.text[p.pos]; {
		case c == '#' || c == '!':
			// A backslash does not continue a comment.
			for p.pos < len(p.text) && !p.atEnd() {
				p.pos++
			}
		case p.atEnd():
			p.end()
		case strings.IndexByte(propertiesSpace, c) >= 0:
			p.pos++
		case c == '\\' && p.blankContinued():
		default:
			return true
		}
	}
	return false
}

// blankContinued passes over a line that is continued and has nothing in it,
// which is as blank as one that is not continued. A backslash at the very end
// of the text continues nothing.
func (p *propertiesText) blankContinued() bool {
	before := *p
	if p.continued() && p.atEnd() && p.text[p.pos-1] != '\\' {
		return true
	}
	*p = before
	return false
}

// atEnd reports whether a line ends here.
func (p *propertiesText) atEnd() bool {
	return p.pos >= len(p.text) || p.text[p.pos] == '\n' || p.text[p.pos] == '\r'
}

// end passes over one end of line: \n, \r or \r\n.
func (p *propertiesText) end() {
	if p.pos >= len(p.text) {
		return
	}
	if p.text[p.pos] == '\r' && p.pos+1 < len(p.text) && p.text[p.pos+1] == '\n' {
		p.pos++
	}
	if p.text[p.pos] == '\n' {
		p.line++ // lines are counted as everywhere else
	}
	p.pos++
}

func (p *propertiesText) space() {
	for p.pos < len(p.text) && strings.IndexByte(propertiesSpace, p.text[p.pos]) >= 0 {
		p.pos++
	}
}

// continued passes over a backslash at the end of a line and the indentation of
// the next one, any number of times.
func (p *propertiesText) continued() bool {
	was := p.pos
	for p.pos < len(p.text) && p.text[p.pos] == '\\' {
		p.pos++
		if !p.atEnd() {
			p.pos--
			break
		}
		p.end()
		p.space()
	}
	return p.pos > was
}

// separator passes over white space with at most one = or : in it.
func (p *propertiesText) separator() {
	seen := false
	for {
		p.space()
		switch {
		case p.continued():
		case !seen && p.pos < len(p.text) && (p.text[p.pos] == '=' || p.text[p.pos] == ':'):
			seen = true
			p.pos++
		default:
			return
		}
	}
}

// token takes a key, up to a separator, or a value, up to the end of its line.
func (p *propertiesText) token(key bool) (text, problem string) {
	ends := "\\\n\r"
	if key {
		ends += propertiesSpace + "=:"
	}
	rest := p.text[p.pos:]
	length := strings.IndexAny(rest, ends)
	if length < 0 {
		length = len(rest)
	}
	p.pos += length
	if p.pos < len(p.text) && p.text[p.pos] == '\\' {
		return p.escapedToken(rest[:length], key)
	}
	return rest[:length], ""
}

// escapedToken goes on with a token where its first backslash stands.
func (p *propertiesText) escapedToken(begun string, key bool) (text, problem string) {
	var b strings.Builder
	b.WriteString(begun)
	var high rune // the first half of a surrogate pair, waiting for the other
	for {
		if p.continued() {
			continue
		}
		if p.atEnd() || key && strings.IndexByte(propertiesSpace+"=:", p.text[p.pos]) >= 0 {
			break
		}
		r, size := utf8.DecodeRuneInString(p.text[p.pos:])
		p.pos += size
		if r == '\\' {
			var unicode bool
			if r, unicode = p.escaped(); r < 0 {
				return b.String(), "not a .properties file: \\u takes four hexadecimal digits"
			}
			if unicode && utf16.IsSurrogate(r) {
				if high == 0 {
					high = r
					continue
				}
				r, high = utf16.DecodeRune(high, r), 0
				if r == utf8.RuneError {
					return b.String(), halfPair
				}
				b.WriteRune(r)
				continue
			}
		}
		if high != 0 {
			return b.String(), halfPair
		}
		b.WriteRune(r)
	}
	if high != 0 {
		return b.String(), halfPair
	}
	return b.String(), ""
}

// escaped takes what follows a backslash. It returns -1 for a broken \u.
func (p *propertiesText) escaped() (r rune, unicode bool) {
	r, size := utf8.DecodeRuneInString(p.text[p.pos:])
	p.pos += size
	switch r {
	case 't':
		return '\t', false
	case 'n':
		return '\n', false
	case 'r':
		return '\r', false
	case 'f':
		return '\f', false
	case 'u':
		if len(p.text)-p.pos < 4 {
			return -1, true
		}
		digits := p.text[p.pos : p.pos+4]
		if strings.Trim(digits, "0123456789abcdefABCDEF") != "" {
			return -1, true
		}
		p.pos += 4
		return hexRune([]byte(digits)), true
	}
	return r, false
}

// restOfLine passes over what is left of a line that was refused.
func (p *propertiesText) restOfLine() {
	for !p.atEnd() {
		if p.continued() {
			continue
		}
		if p.text[p.pos] == '\\' {
			p.pos++
		}
		p.pos++
	}
}
