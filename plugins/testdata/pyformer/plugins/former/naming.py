def heading():
    return "former"
