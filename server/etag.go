package server

import "strings"

// noneMatchHolds reports whether an If-None-Match header, on any number of
// lines, names etag, so that the answer is 304. Tags are compared weakly (RFC
// 9110 13.1.2): W/"x" names "x". After the first thing that is no tag, the rest
// of a line names nothing.
func noneMatchHolds(lines []string, etag string) bool {
	for _, line := range lines {
		if strings.TrimSpace(line) == "*" {
			return true
		}
		for rest := line; ; {
			rest = strings.TrimLeft(rest, " \t,")
			tag := strings.TrimPrefix(rest, "W/")
			if !strings.HasPrefix(tag, `"`) {
				break
			}
			// A comma inside the quotes belongs to the tag.
			end := strings.IndexByte(tag[1:], '"')
			if end < 0 {
				break
			}
			if tag[:end+2] == etag {
				return true
			}
			rest = tag[end+2:]
		}
	}
	return false
}
