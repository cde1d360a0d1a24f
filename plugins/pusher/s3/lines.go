package main

import (
	"io"

	"github.com/rivergate/rivergate/plugins/internal/jsonline"
	"github.com/rivergate/rivergate/sdk"
)

// lineWriter writes JSON Lines.
type lineWriter struct {
	to       io.Writer
	closer   io.Closer // of a compressor; nil: there is none
	envelope bool
	lines    jsonline.Lines
	text     []byte
}

// flushText is how much text is gathered for one write, bytes.
const flushText = 256 << 10

func (w *lineWriter) write(row sdk.Row) error {
	if w.envelope {
		w.text = w.lines.Append(w.text, row)
	} else {
		w.text = append(jsonline.AppendData(w.text, row.JSON()), '\n')
	}
	if len(w.text) < flushText {
		return nil
	}
	return w.flush()
}

func (w *lineWriter) flush() error {
	_, err := w.to.Write(w.text)
	w.text = w.text[:0]
	return err
}

func (w *lineWriter) close() error {
	if err := w.flush(); err != nil {
		return err
	}
	if w.closer != nil {
		return w.closer.Close()
	}
	return nil
}
