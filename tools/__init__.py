"""Tools that make the models HOLA ships and the ones its benches need."""
