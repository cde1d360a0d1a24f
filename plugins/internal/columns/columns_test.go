package columns

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

func anyName(name string) error {
	if name == "" {
		return errors.New("is empty")
	}
	return nil
}

func TestColumnsAreReadAsTheyAreDocumented(t *testing.T) {
	found, err := Parse(" time=timeElapsed:double precision, od = odMeasured,exact=a:b:NUMERIC(40, 3), raw=*:json", anyName)
	require.NoError(t, err)
	require.Equal(t, []Column{
		{"time", "timeElapsed", "double precision"}, {"od", "odMeasured", "text"}, {"exact", "a:b", "numeric(40, 3)"}, {"raw", WholeRow, "json"},
	}, found)
	none, err := Parse(" ", anyName)
	require.NoError(t, err)
	require.Empty(t, none)
}

func TestEachProblemOfAColumnIsNamed(t *testing.T) {
	_, err := Parse("a, =b, uuid=c, x=, y=d:int; DROP TABLE t, z=e, z=f", anyName)
	for _, says := range []string{`"a": must be`, `column "": is empty`, `column "uuid": is there already`, `column "x": names no member`, `"int; drop table t" is no type`, `column "z": is there already`} {
		require.ErrorContains(t, err, says)
	}
}

func TestATableHasASchemaOrNone(t *testing.T) {
	schema, name, err := ParseTable("lab.rows", "schema", anyName)
	require.NoError(t, err)
	require.Equal(t, []string{"lab", "rows"}, []string{schema, name})
	for _, wrong := range []string{"", "a.", ".b", "a.b.c"} {
		_, _, err := ParseTable(wrong, "schema", anyName)
		require.Error(t, err, wrong)
	}
}

func TestColumnTypesMayHoldCommas(t *testing.T) {
	found, err := Parse("a=x:numeric(10,2),b=y:timestamp(3) with time zone,c=z,d=*:jsonb,e=k:f:text[],g=h:public.citext", anyName)
	require.NoError(t, err)
	require.Equal(t, []Column{{"a", "x", "numeric(10,2)"}, {"b", "y", "timestamp(3) with time zone"}, {"c", "z", "text"}, {"d", "*", "jsonb"}, {"e", "k:f", "text[]"}, {"g", "h", "public.citext"}}, found)
}
