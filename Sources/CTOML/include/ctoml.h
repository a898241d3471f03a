int ctoml_x(void);
