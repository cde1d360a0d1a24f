package main

import (
	"github.com/rivergate/rivergate/sdk"
)

// key is what order is kept for.
type key struct {
	org  uint64
	uuid string
}

func keyOf(row sdk.Row) key { return key{row.OrgID(), row.UUID()} }

// portion is rows that are written together: to as many files as may be open at once.
type portion struct {
	rows    []sdk.Row
	to      []*growth // of each row
	targets map[string]*growth
	order   []*growth
}

// span is the positions from first to last, both in it.
type span struct{ first, last uint64 }

// growth is what a portion adds to one file.
type growth struct {
	path  string
	text  []byte
	spans []span
	file  *openFile
	err   error // why this file takes nothing
}

func newPortion() *portion { return &portion{targets: map[string]*growth{}} }

func (p *portion) add(row sdk.Row, path string) {
	target := p.targets[path]
	if target == nil {
		target = &growth{path: path}
		p.targets[path] = target
		p.order = append(p.order, target)
	}
	p.rows = append(p.rows, row)
	p.to = append(p.to, target)
}

// write puts a portion into its files, all of it or none. When one file refuses, everything is taken back and tried again
// without it and without the later rows of the uuids that it fails; so one bad file holds no other up, and no row
// overtakes an earlier one of its uuid. held gathers those uuids.
func (f *File) write(b *sdk.Batch, p *portion, held map[key]error) {
	for {
		now := f.render(b, p, held)
		culprit, err := f.attempt(p)
		if err == nil {
			for k, err := range now {
				held[k] = err
			}
			for _, target := range p.order {
				for _, s := range target.spans {
					f.ledger.written.Add(s.first, s.last)
				}
				f.grown += int64(len(target.text))
			}
			return
		}
		if culprit == nil {
			for _, row := range p.rows {
				b.Fail(row, destinationError(err))
				held[keyOf(row)] = err
			}
			return
		}
		f.log.Warn("cannot write a file; its rows wait", "file", culprit.path, "error", err)
		culprit.err = err
	}
}

// render makes the text for each file. Rows that cannot go are failed; the uuids that wait for them are returned, on top of
// those held before.
func (f *File) render(b *sdk.Batch, p *portion, held map[key]error) map[key]error {
	now := map[key]error{}
	for _, target := range p.order {
		target.text, target.spans = target.text[:0], target.spans[:0]
	}
	for i, row := range p.rows {
		target := p.to[i]
		if len(held)+len(now) > 0 || target.err != nil {
			k := keyOf(row)
			err := target.err
			if err == nil {
				err = now[k]
			}
			if err == nil {
				err = held[k]
			}
			if err != nil {
				now[k] = err
				b.Fail(row, destinationError(err))
				continue
			}
		}
		target.text = f.Format.appendLine(&f.lines, target.text, row)
		at := row.Position()
		if n := len(target.spans); n > 0 && target.spans[n-1].last+1 == at {
			target.spans[n-1].last = at
		} else {
			target.spans = append(target.spans, span{at, at})
		}
	}
	return now
}

// attempt writes and syncs. After an error every file is as it was before; culprit is the file to go on without, nil when
// there is no sense in going on.
func (f *File) attempt(p *portion) (culprit *growth, err error) {
	blame := func(target *growth, err error) (*growth, error) {
		if isFull(err) {
			return nil, err // a disk that is full for one is full for all
		}
		return target, err
	}
	sizes := map[string]int64{}
	var growing []*growth
	for _, target := range p.order {
		target.file = nil
		if len(target.text) == 0 {
			continue
		}
		if target.file, err = f.files.get(target.path); err != nil {
			return blame(target, err)
		}
		if f.files.full(target.file, len(target.text)) {
			// The ledger forgets the old name first: all that is in the file is on its list.
			if len(f.ledger.touched) > 0 {
				if err := f.ledger.checkpoint(); err != nil {
					return nil, err
				}
				f.grown = 0
			}
			if err := f.files.rotate(target.file); err != nil {
				return blame(target, err)
			}
			if target.file, err = f.files.get(target.path); err != nil {
				return blame(target, err)
			}
		}
		sizes[f.relative(target.path)] = target.file.size
		growing = append(growing, target)
	}
	if err := f.ledger.touch(sizes); err != nil {
		return nil, err
	}
	return f.grow(growing, blame)
}

func (f *File) grow(growing []*growth, blame func(*growth, error) (*growth, error)) (culprit *growth, err error) {
	var written []*openFile
	undo := func() {
		for _, file := range written {
			f.files.cut(file)
		}
	}
	ends := make([]int64, len(growing))
	for i, target := range growing {
		text := target.text
		if target.file.size == 0 && f.Format.header() != "" {
			text = append([]byte(f.Format.header()), text...)
		}
		written = append(written, target.file)
		ends[i] = target.file.size + int64(len(text))
		if err := f.files.appendTo(target.file, text); err != nil {
			undo()
			return blame(target, err)
		}
	}
	if failed, err := syncAll(written); err != nil {
		undo()
		for _, target := range growing {
			if target.file == failed {
				return blame(target, err)
			}
		}
	}
	for i, target := range growing {
		target.file.size, target.file.written = ends[i], f.files.now()
	}
	return nil, nil
}
